"""Which activation weights get, and what is said if nothing tells."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from handclip_core.models.weights.activation import activation_notes, quick_gelu_of
from handclip_core.models.weights.origin import origin_of


def run_of(**backbone: str) -> dict[str, Any]:
    return {"strategy": {"name": "full"}, "backbone": backbone}


TWINS = [
    (None, None),
    ({"model_type": "clip", "vision_config": {}}, True),
    ({"model_type": "clip", "vision_config": {"hidden_act": "gelu"}}, False),
    ({"model_type": "clip_vision_model", "hidden_act": "quick_gelu"}, True),
    ({"model_type": "bert"}, None),
    (run_of(name="ViT-B-32", pretrained="openai"), True),
    (run_of(name="ViT-B-32", pretrained="laion2b_s34b_b79k"), False),
    (run_of(name="ViT-B-32-quickgelu", pretrained="gone.pt"), True),
    (run_of(name="ViT-B-32", pretrained="gone.pt"), None),
]


@pytest.mark.parametrize(("config", "expected"), TWINS)
def test_the_activation_is_decided_by_what_is_known(
    tmp_path: Path, config: dict[str, Any] | None, expected: bool | None
) -> None:
    path = tmp_path / "w.pt"
    torch.save({"weight": torch.ones(1)}, path)
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert quick_gelu_of(path, {"weight": torch.ones(1)}, origin_of(path)) is expected
    assert quick_gelu_of(path, {"clip.input_resolution": torch.ones(1)}, origin_of(path)) is True


@pytest.mark.parametrize(
    ("name", "quick", "said"),
    [
        ("ViT-B-32", None, "nothing in it says whether .* set backbone.name: ViT-B-32-quickgelu"),
        ("ViT-B-32", True, "was trained with QuickGELU, so QuickGELU is computed, as if .* ViT-B-32-quickgelu"),
        ("ViT-B-32-quickgelu", False, "was trained with GELU, so GELU is computed, as if backbone.name were ViT-B-32$"),
        ("ViT-B-32", False, None),
        ("ViT-B-32-quickgelu", None, None),
        ("ViT-S-16", None, None),
        ("handclip-nano", True, None),
    ],
)
def test_doubt_and_difference_are_told(name: str, quick: bool | None, said: str | None) -> None:
    notes = activation_notes(name, Path("w.pt"), quick)
    assert len(notes) == (said is not None)
    assert said is None or re.search(said, notes[0])
