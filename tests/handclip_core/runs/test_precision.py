"""The precision that an experiment asks for, or the one that was found faster; a run keeps the one it began in."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handclip_core.engine.precision import Precision
from handclip_core.engine.state import Resume
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs import experiment as experiments
from handclip_core.runs import precision
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, run
from handclip_core.runs.precision import precision_of
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
HIGH, LOW = Precision.FLOAT32, Precision.BFLOAT16


class Clock:
    """Seconds that a step took, and how often it was asked."""

    def __init__(self, low_s: float) -> None:
        self.seconds, self.asked = {HIGH: 1.0, LOW: low_s}, 0

    def __call__(self, _: object, wanted: Precision) -> float:
        self.asked += 1
        return self.seconds[wanted]


@pytest.fixture
def context(tiny_context: ExperimentContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentContext:
    """One on a machine with bfloat16 instructions, whose tower counts as large; with a cache of its own."""
    monkeypatch.setattr(precision, "SMALLEST", 0)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    return replace(tiny_context, cache=tmp_path)


@pytest.mark.parametrize(("low_s", "chosen"), [(0.5, LOW), (0.86, LOW), (0.9, HIGH), (2.0, HIGH)])
def test_what_was_faster_is_tried_once_and_kept(
    low_s: float, chosen: Precision, context: ExperimentContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(low_s)
    monkeypatch.setattr(precision, "_step_s", clock)
    assert [precision_of(Precision.AUTO, context) for _ in range(3)] == [chosen] * 3
    assert clock.asked == 2
    (kept,) = (context.cache / "precision").glob("*.json")
    assert json.loads(kept.read_text())["speedup"] == pytest.approx(1 / low_s)
    kept.write_text("{")
    assert precision_of(Precision.AUTO, context) is chosen
    assert clock.asked == 4


def test_what_is_asked_for_is_not_tried(context: ExperimentContext) -> None:
    assert [precision_of(wanted, context) for wanted in (HIGH, LOW)] == [HIGH, LOW]
    assert list(context.cache.iterdir()) == []


def test_no_more_is_measured_than_is_there(context: ExperimentContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert precision_of(Precision.AUTO, context) is HIGH
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(precision, "SMALLEST", 10**6)
    assert precision_of(Precision.AUTO, context) is HIGH
    assert list(context.cache.iterdir()) == []


def test_measuring_draws_no_random_number(context: ExperimentContext) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    precision_of(Precision.AUTO, context)
    assert torch.equal(torch.rand(1), expected)
    assert len(list((context.cache / "precision").glob("*.json"))) == 1


def test_a_run_says_its_precision_and_goes_on_in_it(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"strategy": {"name": "full"}, "data": TINY_DATA, "backbone": tiny_backbones["vit"], "budget": 2}
    low = Experiment.model_validate({**values, "precision": "bfloat16"})
    done = train_into(tmp_path / "run", low, device=CPU)
    assert json.loads((done.folder / "metrics.json").read_text())["precision"] == "bfloat16"
    first, last = run(low, device=CPU), list(run(low, device=CPU))[-1]
    state = next(first).state
    resume = Resume({name: value.clone() for name, value in state.model.state_dict().items()}, state.training())
    probe = Experiment.model_validate({**values, "strategy": {"name": "linear_probe"}, "precision": "bfloat16"})
    assert list(run(probe, device=CPU))[-1].state.precision is HIGH  # a head alone
    monkeypatch.setattr(experiments, "precision_of", lambda *_: HIGH)  # as on another machine
    (again,) = run(low, device=CPU, resume=resume)
    for name, value in last.state.model.state_dict().items():
        assert torch.equal(again.state.model.state_dict()[name], value)
    earlier = Resume(resume.model, {key: value for key, value in resume.training.items() if key != "precision"})
    assert earlier.precision is HIGH  # of a version that did not save it
    (other,) = list(run(low, device=CPU))[1:]
    assert any(not torch.equal(other.state.model.state_dict()[n], v) for n, v in last.state.model.state_dict().items())
