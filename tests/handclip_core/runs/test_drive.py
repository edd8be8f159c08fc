"""The one loop: what it reports, what it leaves in a folder, and what it goes on from."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from handclip_core.engine.phase import Optim
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.drive import Report, drive
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import BEST, load_tensors, read_log, read_state
from handclip_core.strategies import AnyStrategy, ClipReid, Full, ZeroShot
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")


@pytest.fixture
def experiment(tiny_backbones: dict[str, BackboneSettings]) -> Callable[..., Experiment]:
    def build(strategy: AnyStrategy | None = None, budget: int = 3) -> Experiment:
        chosen = strategy or Full(optim=Optim(lr=1e-3, batch_size=16))
        return Experiment(strategy=chosen, data=TINY_DATA, backbone=tiny_backbones["vit"], budget=budget)

    return build


def without_seconds(report: Report) -> dict[str, object]:
    return {**vars(report), "seconds": 0.0}


def test_a_report_a_unit_with_the_best_so_far_and_the_last_one_says_so(
    experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    driven = drive(experiment(), tmp_path, device=CPU)
    reports = list(driven)
    assert [report.unit for report in reports] == [1, 2, 3]
    assert [report.done for report in reports] == [False, False, True]
    assert [row["unit"] for row in driven.record.log] == [1, 2, 3]
    for n, report in enumerate(reports, start=1):
        best = max(reports[:n], key=lambda one: one.metrics["map"])
        assert report.best == {**best.metrics, "unit": best.unit}
        assert report.seconds >= driven.record.log[n - 1]["train_s"]
        assert {name.split("/")[0] for name in report.training} == {"loss", "lr", "train_accuracy"}
        assert 0 <= report.training["train_accuracy"] <= 1


def test_weights_of_every_second_unit_are_kept_if_asked_for(
    experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    driven = drive(experiment(budget=5).model_copy(update={"keep_every": 2}), tmp_path, device=CPU)
    states = {}
    for report in driven:
        states[report.unit] = {name: value.clone() for name, value in driven.model.state_dict().items()}
    kept = sorted(path.name for path in tmp_path.glob("handclip_epoch_*"))
    assert kept == ["handclip_epoch_2.pth", "handclip_epoch_4.pth"]
    for unit in (2, 4):
        found = load_tensors(tmp_path / f"handclip_epoch_{unit}.pth")
        assert all(torch.equal(value, states[unit][name]) for name, value in found.items())


def test_every_second_unit_is_validated_and_the_last_one(experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    asked = experiment(budget=5).model_copy(update={"eval_every": 2})
    reports = list(drive(asked, tmp_path / "second", device=CPU))
    assert [report.unit for report in reports if report.evaluated] == [2, 4, 5]
    every = {report.unit: report.metrics for report in drive(experiment(budget=5), tmp_path / "every", device=CPU)}
    assert all(report.metrics == every[report.unit] for report in reports if report.evaluated)


def test_a_run_ends_when_validation_has_not_been_better_for_as_often_as_it_waits(
    experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    still = Full(optim=Optim(lr=1e-12, batch_size=16))
    asked = experiment(still, budget=9).model_copy(update={"patience": 2, "eval_every": 2})
    driven = drive(asked, tmp_path / "run", device=CPU)
    reports = list(driven)
    assert [report.unit for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.done for report in reports] == [False] * 5 + [True]
    assert driven.record.best["unit"] == 2
    driven.save(tmp_path / "saved")
    resumed = drive(asked, tmp_path / "again", device=CPU, resume=tmp_path / "saved")
    assert list(resumed) == []

    patient = experiment(budget=9).model_copy(update={"patience": 9})
    assert len(list(drive(patient, tmp_path / "whole", device=CPU))) == 9


def test_patience_wants_scores(experiment: Callable[..., Experiment]) -> None:
    with pytest.raises(ValidationError, match="no scores to wait for"):
        Experiment.model_validate(experiment().model_dump() | {"part": "train_all", "patience": 2})


def test_what_a_stage_ended_with_is_kept_if_asked_for_also_over_a_resume(
    experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    asked = experiment(ClipReid(optim=Optim(batch_size=16)), budget=4).model_copy(update={"keep_stages": True})
    driven = drive(asked, tmp_path / "whole", device=CPU)
    next(driven)
    first = {name: value.clone() for name, value in driven.model.state_dict().items()}
    driven.save(tmp_path / "saved")
    assert [report.phase for report in driven] == ["prompts", "prompts", "image"]
    assert [path.name for path in (tmp_path / "whole").glob("handclip_stage_*")] == ["handclip_stage_prompts.pth"]
    kept, best = (load_tensors(tmp_path / "whole" / name) for name in ("handclip_stage_prompts.pth", BEST))
    learned = {name for name, value in kept.items() if not torch.equal(value, first[name])}
    later = {name for name, value in best.items() if not torch.equal(value, kept[name])}
    assert {name.split(".")[0] for name in learned} == {"prompts"}
    assert later, "the second stage trains"
    assert not later & learned, "and leaves the prompts alone"

    list(drive(asked, tmp_path / "resumed", device=CPU, resume=tmp_path / "saved"))
    again = load_tensors(tmp_path / "resumed" / "handclip_stage_prompts.pth")
    assert all(torch.equal(value, kept[name]) for name, value in again.items())


def test_units_without_evaluation_have_no_metrics_and_no_best(
    experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    first, *_, last = drive(experiment(ClipReid(optim=Optim(batch_size=16))), tmp_path, device=CPU)
    assert (first.evaluated, first.metrics, first.best) == (False, {}, {})
    assert first.training["loss/image_text"] > 0
    assert (last.evaluated, last.best["unit"], last.done) == (True, 3, True)


def test_the_baseline_is_one_report_at_unit_zero(experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    (report,) = drive(experiment(ZeroShot()), tmp_path, device=CPU)
    assert (report.unit, report.images, report.params_trained, report.training, report.done) == (0, 0, 0, {}, True)
    assert report.best == {**report.metrics, "unit": 0}


def test_a_resumed_run_reports_what_the_whole_one_does_whatever_its_process_drew_before(
    experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    whole = drive(experiment(), tmp_path / "whole", device=CPU)
    reports = [next(whole)]
    whole.save(tmp_path / "saved")
    reports += whole
    torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    resumed = drive(experiment(), tmp_path / "resumed", device=CPU, resume=tmp_path / "saved")
    assert [without_seconds(report) for report in resumed] == [without_seconds(report) for report in reports[1:]]
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())


def test_a_state_that_nothing_was_trained_on_since_is_saved_as_it_was(
    experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    whole = drive(experiment(), tmp_path / "whole", device=CPU)
    assert list(whole)[-1].done
    whole.save(tmp_path / "saved")
    again = drive(experiment(), tmp_path / "again", device=CPU, resume=tmp_path / "saved")
    assert list(again) == []
    again.save(tmp_path / "copy")
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == names
    saved, copied = read_state(tmp_path / "saved"), read_state(tmp_path / "copy")
    assert copied.position == saved.position
    assert all(torch.equal(value, copied.model[name]) for name, value in saved.model.items())
    assert read_log(tmp_path / "copy" / "training_log.csv") == read_log(tmp_path / "saved" / "training_log.csv")


def test_a_unit_that_could_not_be_written_is_written_again_and_logged_once(
    experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    tried: list[int] = []

    def write(action: Callable[[], None]) -> None:
        partial = tmp_path / "handclip_best.pth.partial"
        partial.symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left"):
            action()
        partial.unlink()
        action()
        tried.append(len(driven.record.log))

    driven = drive(experiment(budget=1), tmp_path, device=CPU, write=write)
    assert [report.unit for report in driven] == [1]
    assert tried == [1]


def test_a_missing_checkpoint_is_refused_at_once(experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    with pytest.raises((InputError, OSError), match="nowhere"):
        drive(experiment(), tmp_path / "run", device=CPU, resume=tmp_path / "nowhere")
