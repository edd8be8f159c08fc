import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from handclip_core.drawn import draw_arrays
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings, load_backbone
from handclip_core.pretraining.pretrain import PretrainSettings, aspect_loss, clip_loss, pretrain
from handclip_core.pretraining.views import vary

TINY = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "patch_size": None},
        "text_cfg": {"context_length": 64, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
}


@pytest.fixture(scope="module", autouse=True)
def drawn_once() -> Iterator[None]:
    """Draw the same images once for all tests; that the same arguments give the same bytes is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("handclip_core.pretraining.pairs.draw_arrays", cache(draw_arrays))
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., PretrainSettings]:
    architecture = tmp_path / "tiny.json"
    architecture.write_text(json.dumps(TINY), encoding="utf-8")

    def make(folder: str, **changes: object) -> PretrainSettings:
        values = {
            "out": tmp_path / folder, "architecture": architecture, "people": 16, "images_per_aspect": 2, "draw_px": 40,
            "held_out_people": 4, "workers": 1, "steps": 6, "batch": 16, "warmup_steps": 2, "checkpoint_every": 3,
            "averaging": 0.5, "precision": "float32", "lr": 3e-3,
        }  # fmt: skip
        return PretrainSettings.parse({**values, **changes}, source="test")

    return make


def weights_of(folder: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = load_file(folder / "open_clip_model.safetensors")
    return loaded


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def cosines(left: Tensor, right: Tensor) -> list[list[float]]:
    return [[float(torch.dot(a, b).item() / (a.norm().item() * b.norm().item())) for b in right] for a in left]


def test_loss_is_the_mean_of_both_directions_and_of_all_texts_of_a_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(5, 7, generator=generator), torch.randn(5, 7, generator=generator)
    hands = [0, 1, 0, 2, 2]
    similar = cosines(images, texts)
    expected = 0.0
    for i in range(5):
        to_texts = [math.exp(3.0 * similar[i][j]) for j in range(5)]
        to_images = [math.exp(3.0 * similar[j][i]) for j in range(5)]
        right = [j for j in range(5) if hands[j] == hands[i]]
        for j in right:
            expected -= (math.log(to_texts[j] / sum(to_texts)) + math.log(to_images[j] / sum(to_images))) / len(right)
    loss = clip_loss(images, texts, torch.tensor(3.0), hands=torch.tensor(hands))
    assert loss.item() == pytest.approx(expected / 10, rel=1e-5)


@pytest.mark.parametrize(("scale", "used"), [(3.0, 3.0), (80.0, 30.0)])
def test_aspects_are_classified_by_their_prompts(scale: float, used: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images, prompts = torch.randn(5, 7, generator=generator), torch.randn(4, 7, generator=generator)
    aspects = [0, 3, 3, 1, 2]
    expected = 0.0
    for row, aspect in zip(cosines(images, prompts), aspects, strict=True):
        expected -= used * row[aspect] - math.log(sum(math.exp(used * value) for value in row))
    loss = aspect_loss(images, prompts, torch.tensor(scale), torch.tensor(aspects))
    assert loss.item() == pytest.approx(expected / 5, rel=1e-4)


def test_loss_falls_and_the_folder_is_a_backbone(settings: Callable[..., PretrainSettings]) -> None:
    folder = pretrain(settings("run", steps=80, checkpoint_every=20, name_share=0.0))
    report = json.loads((folder / "pretrain.json").read_text(encoding="utf-8"))
    losses = [record["loss"] for record in report["records"]]
    assert [record["step"] for record in report["records"]] == [20, 40, 60, 80]
    assert losses[-1] < losses[0] - 0.1
    backbone = load_backbone(BackboneSettings(name=f"local-dir:{folder}"), text=True)
    untrained = load_backbone(BackboneSettings(name=f"local-dir:{folder}", pretrained="random"), text=True)
    assert backbone.key() != untrained.key()
    assert {tensor.dtype for tensor in weights_of(folder).values()} == {torch.float16}


def test_a_run_cut_anywhere_ends_with_the_same_weights(
    settings: Callable[..., PretrainSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights_of(pretrain(settings("whole")))
    steps = 0

    def stop_in_the_fifth_step(pixels: Tensor, **kwargs: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt
        return vary(pixels, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("handclip_core.pretraining.pretrain.vary", stop_in_the_fifth_step)
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings("cut"))
    resumed = pretrain(settings("cut"))
    assert same(weights_of(resumed), whole)
    report = json.loads((resumed / "pretrain.json").read_text(encoding="utf-8"))
    assert [record["step"] for record in report["records"]] == [3, 6]


def test_another_seed_gives_other_weights(settings: Callable[..., PretrainSettings]) -> None:
    first, second = (weights_of(pretrain(settings(f"seed{seed}", steps=2, seed=seed))) for seed in (0, 1))
    assert not same(first, second)


def test_a_checkpoint_of_other_settings_is_refused(settings: Callable[..., PretrainSettings]) -> None:
    pretrain(settings("run", steps=2))
    with pytest.raises(InputError, match=r"checkpoint\.pt: of a run with another batch, lr; name another folder"):
        pretrain(settings("run", steps=2, lr=1e-4, batch=8))


def test_a_damaged_checkpoint_is_refused(settings: Callable[..., PretrainSettings]) -> None:
    chosen = settings("run", steps=2)
    checkpoint = pretrain(chosen) / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"checkpoint\.pt: damaged .*; remove it to start anew"):
        pretrain(chosen)


def test_a_batch_larger_than_the_people_leaves_nothing_behind(settings: Callable[..., PretrainSettings]) -> None:
    chosen = settings("run", batch=40)
    with pytest.raises(InputError, match="batch: 40 images need 20 identities, there are 16"):
        pretrain(chosen)
    assert not chosen.out.exists()
