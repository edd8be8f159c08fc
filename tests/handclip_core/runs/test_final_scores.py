"""What is measured of a run at its end, in this process."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handclip_core.engine.optim import choose
from handclip_core.engine.phase import Optim
from handclip_core.evaluation.storage import load_scores
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_context
from handclip_core.runs.drive import Drive, drive
from handclip_core.runs.experiment import Experiment, assemble, run
from handclip_core.runs.final_scores import Facts, read_facts, wise_ft_file, write_final_scores
from handclip_core.runs.run_folder import load_tensors
from handclip_core.runs.soups import ALPHAS, Ingredient, wise_ft_scores
from handclip_core.strategies import AnyStrategy, Full, SequentialEWC, ZeroShot
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")


def experiment_of(strategy: AnyStrategy, backbone: BackboneSettings) -> Experiment:
    return Experiment(strategy=strategy, data=TINY_DATA, backbone=backbone, seed=1001, budget=3)


@pytest.fixture
def experiment(tiny_backbones: dict[str, BackboneSettings]) -> Experiment:
    return experiment_of(Full(optim=Optim(lr=3e-3, batch_size=16)), tiny_backbones["vit"])


def ended(driven: Drive, state: Path) -> Facts:
    """Take a run to its end, save it in ``state`` and measure it there."""
    *_, last = driven
    driven.save(state)
    write_final_scores(state, driven, last)
    driven.close()
    return read_facts(state)


def ran(folder: Path, experiment: Experiment) -> Facts:
    return ended(drive(experiment, folder / "run", device=CPU), folder / "state")


def test_a_run_is_scored_after_its_last_unit_and_its_peak_is_only_noted(experiment: Experiment, tmp_path: Path) -> None:
    facts = ran(tmp_path, experiment)
    units = list(run(experiment, device=CPU))
    scores = load_scores(tmp_path / "state" / "scores.npz").mean("map")
    assert scores == pytest.approx(units[-1].metrics["map"], abs=1e-6)
    peak = max(units, key=lambda item: item.metrics["map"])
    assert facts.peak == pytest.approx(peak.metrics["map"], abs=1e-6)
    assert facts.peak_unit == peak.unit
    assert (facts.units, facts.images) == (3, units[-1].images)
    assert facts.train_s > 0
    assert facts.cpu_s > 0
    assert facts.params_trained == units[-1].params_trained


def test_scores_of_the_saved_weights_and_of_their_mixtures_lie_beside_them(
    experiment: Experiment, tmp_path: Path
) -> None:
    ran(tmp_path, experiment)
    state = tmp_path / "state"
    saved = {"handclip_final.pth", "handclip_optimizer.pth", "handclip_best.pth", "training_log.csv"}
    wise = {wise_ft_file(alpha) for alpha in ALPHAS}
    assert {path.name for path in state.iterdir()} == saved | wise | {"scores.npz", "run.json"}
    *_, last = run(experiment, device=CPU)
    weights, expected = load_tensors(state / "handclip_final.pth"), last.state.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    again = wise_ft_scores(Ingredient("", experiment, state / "handclip_final.pth"), device=CPU)
    assert again.keys() == set(ALPHAS)
    for alpha, scores in again.items():
        assert load_scores(state / wise_ft_file(alpha)).mean("map") == scores.mean("map")


def test_a_run_that_was_cut_short_goes_on_to_the_same_scores(experiment: Experiment, tmp_path: Path) -> None:
    cut = drive(experiment, tmp_path / "cut" / "run", device=CPU)
    for _ in range(2):
        next(cut)
    cut.save(tmp_path / "cut" / "half")
    cut.close()
    goes_on = drive(experiment, tmp_path / "other" / "run", device=CPU, resume=tmp_path / "cut" / "half")
    resumed, whole = ended(goes_on, tmp_path / "other" / "state"), ran(tmp_path / "whole", experiment)
    assert replace(resumed, train_s=0, cpu_s=0) == replace(whole, train_s=0, cpu_s=0)
    assert resumed.train_s > 0
    assert resumed.cpu_s > 0
    a, b = (load_scores(tmp_path / name / "state" / "scores.npz").queries for name in ("other", "whole"))
    assert (a.ap == b.ap).all()


def test_zero_shot_trains_nothing_and_is_mixed_with_nothing(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    facts = ran(tmp_path, experiment_of(ZeroShot(), tiny_backbones["vit"]))
    assert (facts.units, facts.images, facts.train_s, facts.cpu_s, facts.params_trained) == (0, 0, 0, 0, 0)
    assert list(tmp_path.rglob("wise-*")) == []


def test_weights_of_all_phases_count_once(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> None:
    experiment = experiment_of(SequentialEWC(fisher_samples=1), tiny_backbones["vit"])
    ready = assemble(experiment, open_context(experiment.data, experiment.backbone, CPU))
    assert len(ready.phases) == 4
    one_phase = sum(item.parameter.numel() for item in choose(ready.model, ready.phases[0].train))
    assert ran(tmp_path, experiment).params_trained == one_phase
