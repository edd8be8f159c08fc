"""Which losses a probe of a frozen tower can learn from."""

from typing import Any

import pytest

from handclip_core.errors import InputError
from handclip_core.strategies import LinearProbe

PAIRS: dict[str, Any] = {"losses": {"contrastive": {"weight": 1}}, "sampler": {"kind": "pk"}}
NOTHING_TO_TRAIN: list[dict[str, Any]] = [
    {"losses": {"image_text": {"weight": 1}}},
    {"losses": {"center": {"weight": 1}, "on": "trunk"}},
    {**PAIRS, "neck": {"kind": "bn", "embedding": "before"}},
    {"neck": {"kind": "none"}},
]


@pytest.mark.parametrize("values", NOTHING_TO_TRAIN)
def test_losses_that_would_read_the_frozen_tower_alone_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="set finetune_share"):
        LinearProbe.parse(values, source="strategy")
    assert LinearProbe.parse({**values, "finetune_share": 0.5}, source="strategy").finetune_share == 0.5


def test_losses_behind_the_neck_are_welcome() -> None:
    assert LinearProbe.parse(PAIRS, source="strategy").losses.contrastive.weight == 1


def test_what_a_file_leaves_out_of_its_optimiser_is_the_probes_own() -> None:
    given = LinearProbe.parse({"optim": {"batch_size": 8}}, source="strategy").optim
    assert given == LinearProbe().optim.model_copy(update={"batch_size": 8})
    assert given.lr == 1e-3
