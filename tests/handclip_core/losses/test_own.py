"""Losses of a package outside the tree, named in settings."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from handclip_core.engine.gradients import backward
from handclip_core.errors import InputError
from handclip_core.local import train_into
from handclip_core.losses.own import OwnLoss
from handclip_core.models.backbone import BackboneSettings
from handclip_core.process_group import process_group
from handclip_core.runs.experiment import Assembled, Experiment, assemble, context_of, run
from handclip_core.runs.loaded import load_finished
from handclip_core.types import Batch, Encoded, Matching, Output
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
PACKAGE = """
import torch
from torch.nn import functional as F


class Focal:
    def __init__(self, gamma=2.0):
        if gamma < 0:
            raise ValueError("gamma is negative")
        self.gamma = gamma

    def build(self):
        def loss(output, batch):
            own = F.cross_entropy(output.logits, batch.labels, reduction="none")
            return ((1 - torch.exp(-own)) ** self.gamma * own).mean()
        return loss


class Distance:
    def build(self):
        return lambda output, batch: (output.encoded.projected - output.matching.texts).square().mean()


class Empty:
    def build(self):
        return None


class Lost:
    def __init__(self):
        raise KeyError("lost")

    def build(self):
        return None


class Unbuilt:
    def build(self):
        raise RuntimeError("two\\nlines")


class Precision(torch.nn.Module):
    def build(self):
        self.register_buffer("seen", torch.zeros(()))
        return self

    def forward(self, output, batch):
        tensors = [output.embedding, output.logits, *output.encoded.tensors()[:2], output.matching.texts]
        assert all(tensor.dtype == torch.float32 for tensor in tensors)
        product = output.embedding @ output.embedding.T
        assert product.dtype == torch.float32
        self.seen += 1
        return product.mean()


def function():
    return None
"""


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packages" / "outside_losses"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "good.py").write_text(PACKAGE)
    (folder / "half.py").write_text("import math\nmath.nothing\n")
    (folder / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(folder.parent))


def ready(backbone: BackboneSettings, task: str, strategy: dict[str, Any]) -> Assembled:
    values = {"task": {"name": task}, "strategy": strategy, "data": TINY_DATA, "backbone": backbone, "budget": 1}
    experiment = Experiment.model_validate(values)
    return assemble(experiment, context_of(experiment, CPU))


def first_loss(found: Assembled) -> tuple[float, Any]:
    batch = found.loader(0).batch(0)
    step = {"micro_batch": None, "group": process_group(), "seed": 0}
    parts = backward(found.model, batch, found.phases[0], **step).parts  # type: ignore[arg-type]
    return float(parts["own" if "own" in parts else "captions"]), batch


def test_a_loss_on_classes_is_a_term_beside_the_others(tiny_backbones: dict[str, BackboneSettings]) -> None:
    own = {"use": "outside_losses.good.Focal", "options": {"gamma": 1.5}, "weight": 0.5}
    losses = {"identity": {"weight": 0}, "own": own}
    found = ready(tiny_backbones["vit"], "classes", {"name": "full", "losses": losses})
    assert [(term.name, term.weight) for term in found.phases[0].terms] == [("own", 0.5)]
    value, batch = first_loss(found)
    with torch.no_grad():
        chosen = F.softmax(found.model(batch).logits.double(), dim=1)[torch.arange(len(batch.labels)), batch.labels]
    assert value == pytest.approx(float((-((1 - chosen) ** 1.5) * chosen.log()).mean()), rel=1e-4)
    again = Experiment.model_validate_json(found.experiment.model_dump_json())
    assert again == found.experiment
    (report,) = run(again, device=CPU)
    assert report.losses["own"] > 0


def test_a_loss_on_captions_stands_in_place_of_the_others(tiny_backbones: dict[str, BackboneSettings]) -> None:
    losses = {"kind": "own", "own": {"use": "outside_losses.good.Distance"}, "learn_temperature": False}
    found = ready(tiny_backbones["vit"], "captions", {"name": "two_tower", "losses": losses})
    value, batch = first_loss(found)
    with torch.no_grad():
        output = found.model(batch)
        gaps = [
            (image - text).square() for image, text in zip(output.encoded.projected, output.matching.texts, strict=True)
        ]
    assert value == pytest.approx(float(torch.stack(gaps).mean()), rel=1e-4)


def test_a_finished_run_is_opened_without_the_code_of_its_loss(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"use": "outside_losses.good.Focal"}
    found = ready(tiny_backbones["vit"], "classes", {"name": "full", "losses": {"own": own}})
    folder = train_into(tmp_path / "run", found.experiment, device=CPU).folder
    monkeypatch.setitem(sys.modules, "outside_losses.good", None)
    with pytest.raises(InputError, match="outside_losses"):
        assemble(found.experiment, found.context)
    assert load_finished(folder, device=CPU).model.width > 0


def test_a_loss_sees_float32_whatever_the_precision_and_its_buffers_are_kept() -> None:
    loss = OwnLoss.model_validate({"use": "outside_losses.good.Precision"}).build(key="own")
    half, labels = torch.randn(3, 4, dtype=torch.bfloat16, requires_grad=True), torch.arange(3)
    matching = Matching(half, torch.eye(3, dtype=torch.bool), half.new_ones(()), half.new_zeros(()))
    output = Output(Encoded(half, half), half, half, matching=matching)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(output, Batch(half, labels, labels, labels))
    assert value.dtype == torch.float32
    value.backward()
    assert half.grad is not None
    assert isinstance(loss, torch.nn.Module)
    assert [float(buffer) for buffer in loss.state_dict().values()] == [1]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"use": "outside_losses.none.Focal"}, "no module 'outside_losses.none'; install its package, or add"),
        ({"use": "outside_losses.good.Focl"}, "outside_losses.good has no 'Focl'"),
        ({"use": "outside_losses.good.function"}, "is no class with a method 'build'"),
        ({"use": "outside_losses.good.Empty"}, "cannot be called"),
        ({"use": "outside_losses.good.Focal", "options": {"alpha": 1}}, "cannot be made of them.*'alpha'"),
        (
            {"use": "outside_losses.good.Focal", "options": {"gamma": -1}},
            "cannot be made of them: ValueError: gamma is negative",
        ),
        ({"use": "outside_losses.good.Lost"}, r"good\.Lost cannot be made of them: KeyError: 'lost'"),
        ({"use": "outside_losses.good.Unbuilt"}, r"good\.Unbuilt\.build\(\): RuntimeError: two lines"),
        ({"use": "outside_losses.half.Focal"}, "AttributeError while importing outside_losses.half"),
        ({"use": "outside_losses.broken.Focal"}, "ZeroDivisionError while importing outside_losses.broken"),
        ({"use": "/etc/passwd"}, "own.use"),
        ({"use": "Focal"}, "own.use"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    tiny_backbones: dict[str, BackboneSettings], own: dict[str, Any], said: str
) -> None:
    with pytest.raises((InputError, ValueError), match=rf"(?s)own.*{said}|{said}") as refused:
        ready(tiny_backbones["vit"], "classes", {"name": "full", "losses": {"own": own}})
    if isinstance(refused.value, InputError):
        assert "\n" not in str(refused.value)


def test_the_kind_and_the_loss_come_together(tiny_backbones: dict[str, BackboneSettings]) -> None:
    with pytest.raises(ValueError, match="own: goes with kind: own"):
        ready(tiny_backbones["vit"], "captions", {"name": "two_tower", "losses": {"kind": "own"}})
