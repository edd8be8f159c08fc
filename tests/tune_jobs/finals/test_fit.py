"""Single runs of the finals, in this process."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handclip_core.config import read_yaml
from handclip_core.engine.optim import choose
from handclip_core.errors import InputError
from handclip_core.evaluation.storage import load_scores
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_bench
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Experiment, assemble, run
from handclip_core.runs.run_folder import load_tensors
from handclip_core.runs.soups import ALPHAS, Ingredient, wise_scores
from handclip_core.strategies import AnyStrategy, SequentialEWC, ZeroShot
from tests.conftest import TINY_DATA
from tests.tune_jobs.finals.conftest import full
from tune_jobs.finals.candidates import Finalist
from tune_jobs.finals.fit import finals_run, read_facts, wise_file

CPU = torch.device("cpu")


def experiment_of(strategy: AnyStrategy, backbone: BackboneSettings) -> Experiment:
    return Experiment(strategy=strategy, data=TINY_DATA, backbone=backbone, seed=1001, budget=3)


@pytest.fixture
def experiment(tiny_backbones: dict[str, BackboneSettings]) -> Experiment:
    return experiment_of(full(3e-3), tiny_backbones["vit"])


def ran(folder: Path, experiment: Experiment) -> dict[str, float]:
    finals_run(str(folder), experiment.model_dump(mode="json"), "cpu", 1)
    found: dict[str, float] = read_yaml(folder / "run.json")
    return found


def test_a_run_is_scored_after_its_last_unit_and_its_peak_is_only_noted(experiment: Experiment, tmp_path: Path) -> None:
    facts = ran(tmp_path, experiment)
    units = list(run(experiment, device=CPU))
    assert facts["map"] == pytest.approx(units[-1].metrics["map"], abs=1e-6)
    assert facts["peak_map"] == pytest.approx(max(item.metrics["map"] for item in units), abs=1e-6)
    assert load_scores(tmp_path / "scores.npz").overall.map.mean == facts["map"]
    assert (facts["units"], facts["images"]) == (3, units[-1].images)
    assert facts["train_s"] > 0
    assert facts["params_trained"] == units[-1].params_trained


def test_a_run_leaves_its_last_weights_its_log_and_scores_and_no_other_weights(
    experiment: Experiment, tmp_path: Path
) -> None:
    ran(tmp_path, experiment)
    wise = {wise_file(alpha) for alpha in ALPHAS}
    expected = {"config.json", "handclip_final.pth", "training_log.csv", "scores.npz", "run.json"} | wise
    assert {path.name for path in tmp_path.iterdir()} == expected
    *_, last = run(experiment, device=CPU)
    saved, state = load_tensors(tmp_path / "handclip_final.pth"), last.state.model.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in state.items())
    again = wise_scores(Ingredient("", experiment, tmp_path / "handclip_final.pth"), device=CPU)
    for alpha, scores in again.items():
        assert load_scores(tmp_path / wise_file(alpha)).overall.map.mean == scores.overall.map.mean


def test_a_run_that_was_cut_short_goes_on_to_the_same_scores(experiment: Experiment, tmp_path: Path) -> None:
    cut = drive(experiment, tmp_path / "cut", device=CPU)
    for _ in range(2):
        next(cut)
        cut.keep()
    cut.close()
    resumed, whole = ran(tmp_path / "cut", experiment), ran(tmp_path / "whole", experiment)
    assert {**resumed, "train_s": 0} == {**whole, "train_s": 0}
    assert not (tmp_path / "cut" / "checkpoint").exists()


def test_zero_shot_trains_nothing_and_is_mixed_with_nothing(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    facts = ran(tmp_path, experiment_of(ZeroShot(), tiny_backbones["vit"]))
    assert (facts["units"], facts["images"], facts["train_s"], facts["params_trained"]) == (0, 0, 0, 0)
    assert list(tmp_path.glob("wise-*")) == []


def test_weights_of_all_phases_count_once(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> None:
    experiment = experiment_of(SequentialEWC(fisher_samples=1), tiny_backbones["vit"])
    ready = assemble(experiment, open_bench(experiment.data, experiment.backbone, CPU))
    assert len(ready.phases) == 4
    one_phase = sum(item.parameter.numel() for item in choose(ready.model, ready.phases[0].train))
    assert ran(tmp_path, experiment)["params_trained"] == one_phase


def test_facts_are_those_of_a_complete_run_of_the_same_settings_on_the_same_data(
    experiment: Experiment, tmp_path: Path
) -> None:
    finalist = Finalist(experiment.model_copy(update={"seed": 0, "micro_batch": 4}), 1, 0.5, ("rank 1",))
    assert read_facts(tmp_path, finalist, manifest_hash="any") is None
    known = ran(tmp_path, experiment)
    found = read_facts(tmp_path, finalist, manifest_hash=str(known["manifest_hash"]))
    assert found is not None
    assert found.map == known["map"]
    with pytest.raises(InputError, match="is of other data than the sweep has now; remove this folder"):
        read_facts(tmp_path, finalist, manifest_hash="other")
    other = replace(finalist, experiment=experiment.model_copy(update={"budget": 4}))
    with pytest.raises(InputError, match="is of other settings than its name says"):
        read_facts(tmp_path, other, manifest_hash=str(known["manifest_hash"]))
