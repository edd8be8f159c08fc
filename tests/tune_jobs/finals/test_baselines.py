from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.evaluation.baselines import BASELINES
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.baselines import BaselineScores, score_baselines
from handclip_core.runs.context import open_context
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from handclip_core.tasks.captions.task import Captions
from handclip_core.tasks.classes.task import Classes
from handclip_core.tasks.identities.task import Identities
from tests.conftest import TINY_DATA
from tests.tune_jobs.finals.entries import scores
from tune_jobs.finals.baselines import kept_baselines

TASK = Identities()


def test_baselines_are_scored_once_for_the_same_data(tmp_path: Path) -> None:
    calls: list[str] = []

    def score() -> BaselineScores:
        calls.append("scored")
        names = list(BASELINES)
        return BaselineScores({name: scores(0.3, 1) for name in names[1:]}, {names[0]: "does not fit"})

    first, again = (kept_baselines(tmp_path, "a" * 64, TASK, score) for _ in range(2))
    assert calls == ["scored"]
    assert first.failures == again.failures == {next(iter(BASELINES)): "does not fit"}
    assert {name: one.mean("map") for name, one in again.scores.items()} == {
        name: scores(0.3, 1).mean("map") for name in list(BASELINES)[1:]
    }
    kept_baselines(tmp_path, "b" * 64, TASK, score)
    assert len(calls) == 2, "other data are scored anew"


def test_a_task_without_baselines_asks_for_none_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def score() -> BaselineScores:
        raise AssertionError("there is nothing to score")

    for task in (Classes(), Captions()):
        assert kept_baselines(tmp_path, "a" * 64, task, score).scores == {}
    assert not list(tmp_path.iterdir())


def test_a_baseline_that_a_later_version_adds_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = list(BASELINES)

    def score() -> BaselineScores:
        return BaselineScores({name: scores(0.3, 1) for name in known})

    kept_baselines(tmp_path, "a" * 64, TASK, score)
    known.append("newer")
    monkeypatch.setattr(Identities, "baselines", tuple(known))
    assert "newer" in kept_baselines(tmp_path, "a" * 64, TASK, score).scores


def test_a_baseline_that_does_not_fit_the_data_is_named_and_the_others_are_scored(
    tiny_backbones: dict[str, BackboneSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path))
    open_context.cache_clear()

    def refuse(*_: object, **__: object) -> None:
        raise InputError("no class has two training images")

    monkeypatch.setattr("handclip_core.models.metric.WithinClass", refuse)
    experiment = Experiment(strategy=ZeroShot(), data=TINY_DATA, backbone=tiny_backbones["vit"])
    found = score_baselines(experiment, "cpu")
    assert found.failures == {"wccn_hog": "no class has two training images"}
    assert {*found.scores} == {*BASELINES} - {"wccn_hog"}
    open_context.cache_clear()
