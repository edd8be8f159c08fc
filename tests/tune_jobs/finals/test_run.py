"""Whole finals of a tiny sweep on a small cluster."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from handclip_core.errors import InputError
from handclip_core.evaluation.access_log import OPENED, SCORED
from handclip_core.evaluation.baselines import BASELINES
from handclip_core.models.backbone import BackboneSettings
from handclip_core.paths import STATE_VARIABLE
from handclip_core.runs.baselines import baseline_scores
from handclip_core.runs.context import open_context
from handclip_core.runs.experiment import Experiment, assemble, run, score
from handclip_core.runs.run_folder import load_run, read_experiment
from handclip_core.runs.validation import BEFORE, read_validation
from handclip_core.strategies import LinearProbe, SequentialEWC, ZeroShot
from handclip_core.types import Aspect
from tests.limits import LIMIT_S
from tests.tune_jobs.finals.conftest import full, write_sweep
from tests.tune_jobs.finals.holding import CPU, DORSAL, access_log_of, finalists, hold, records_of, wait_for_text
from tests.warm_workers import for_drivers
from tune_jobs.finals.past_sweep import read_sweep
from tune_jobs.state.journal import FILE
from tune_jobs.state.trial import Status
from tune_jobs.storage.lease import SweepLease

ROOT = Path(__file__).parents[3]
SEEDS = (1001, 1002)
IMPOSSIBLE = SequentialEWC(order=(Aspect.PALMAR_LEFT,))
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("own_state")]


@dataclass(frozen=True)
class Held:
    """Finals that were held once, and what they printed."""

    storage: Path
    code: int
    said: str

    @property
    def finals(self) -> Path:
        return self.storage / "tiny" / "finals"


@pytest.fixture(scope="module")
def held(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> Held:
    """Finals with a look at the test identities; one of the sweep's best configurations does not fit the data."""
    del ray_cluster
    storage = tmp_path_factory.mktemp("runs")
    trials = ((ZeroShot(), 0.50), (LinearProbe(), 0.52), (full(1e-3), 0.70), (IMPOSSIBLE, 0.71))
    write_sweep(storage / "tiny", trials, backbone=tiny_backbones["vit"], data=DORSAL)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STATE_VARIABLE, str(storage / ".state"))
        patch.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        code = hold(storage, with_test=True)
    return Held(storage, code, "\n".join(said))


@pytest.fixture
def again(held: Held, tmp_path: Path) -> Path:
    """A copy of the storage, to be changed."""
    shutil.copytree(held.storage, tmp_path / "runs")
    return tmp_path / "runs"


def test_finalists_have_the_figures_of_plain_runs_on_the_fresh_seeds(held: Held) -> None:
    assert held.code == 0
    row = finalists(held.finals)["full, trial 2"]
    experiment = next(one.experiment for one in read_sweep(held.storage / "tiny").tried if one.number == 2)
    last = []
    for seed in SEEDS:
        *_, progress = run(experiment.model_copy(update={"seed": seed}), device=CPU)
        last.append(progress.metrics["map"])
    assert float(row["map"]) == pytest.approx(np.mean(last), abs=1e-6)
    assert float(row["map_sd"]) == pytest.approx(np.std(last, ddof=1), abs=1e-6)
    assert float(row["swept_map"]) == 0.7


def test_every_configuration_ran_on_the_same_fresh_seeds(held: Held) -> None:
    runs = [view for view in records_of(held.finals).all() if view.experiment.part == "train"]
    complete = [view for view in runs if view.status is Status.COMPLETE]
    assert len(complete) == len(SEEDS) * 5
    assert len({view.origin for view in runs}) == len(runs) == len(SEEDS) * 6
    assert all(view.origin.endswith(f", seed {view.experiment.seed}") for view in runs)
    assert {view.experiment.seed for view in runs} == set(SEEDS)
    scored = {path.parent.parent.name for path in held.finals.glob("trials/*/*/run.json")}
    assert scored == {view.name for view in complete}
    fit = next(view for view in records_of(held.finals).all() if view.experiment.part == "train_all")
    assert fit.status is Status.COMPLETE


def test_a_failed_run_is_named_and_the_rest_goes_on(held: Held) -> None:
    for seed in SEEDS:
        assert f"sequential_ewc, trial 3, seed {seed}: InputError: strategy.order" in held.said
        failed = [one for one in records_of(held.finals).all() if one.status is Status.FAILED]
        (view,) = (one for one in failed if one.origin.endswith(f", seed {seed}"))
        text = (held.finals / "trials" / view.name / "error.txt").read_text()
        assert text.splitlines()[-1].endswith("no training image shows any of palmar left")
        assert "\x1b" not in text
    found = finalists(held.finals)
    assert "sequential_ewc, trial 3" not in found
    assert {"full, trial 2", "linear_probe, trial 1", "zero_shot, trial 0", "sequential_ewc, default"} <= set(found)
    assert "sequential_ewc, trial 3, seed 1001: InputError" in (held.finals.parent / "report.md").read_text()


def test_mixtures_stand_beside_what_they_are_made_of(held: Held) -> None:
    kinds = [row["kind"] for name, row in finalists(held.finals).items() if name.startswith("full, ")]
    assert sorted(kinds) in (["mixture"] * 2 + ["trained"] * 2, ["mixture"] * 3 + ["trained"] * 2)
    assert any("WiSE-FT" in name for name in finalists(held.finals))


def test_the_verdict_has_every_strategy_and_the_sweeps_maximum_is_called_optimistic(held: Held) -> None:
    with (held.finals / "verdict.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["strategy"] for row in rows} == {"zero_shot", "linear_probe", "full", "sequential_ewc"}
    assert [row["verdict"] for row in rows].count("winner") == 1
    assert {row["verdict"] for row in rows} <= {"winner", "worse", "no difference shown", "not searched enough to say"}
    full_row = next(row for row in rows if row["strategy"] == "full")
    assert float(full_row["search_core_hours"]) == pytest.approx(36 / 3600)
    assert float(full_row["fit_cpu_hours"]) > 0
    assert float(full_row["images_cpu_s"]) > 0
    assert (full_row["swept_trials"], full_row["swept_units"]) == ("1", "2")
    assert "The sweep's own maximum, 71.00 by trial 3 (sequential_ewc)" in held.said
    assert "optimistic, and no result" in held.said


def test_baselines_stand_among_the_finalists_and_are_kept(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = finalists(again / "tiny" / "finals")
    experiment = read_sweep(again / "tiny").tried[0].experiment
    context = open_context(experiment.data, experiment.backbone, CPU)
    for name in BASELINES:
        assert (found[name]["kind"], found[name]["place"]) == ("baseline", "")
        assert float(found[name]["map"]) == pytest.approx(baseline_scores(name, context, "val").mean("map"), abs=1e-6)
    monkeypatch.setattr("tune_jobs.finals.build.score_baselines", None)
    assert hold(again) == 0
    assert finalists(again / "tiny" / "finals").keys() == found.keys()


def test_the_look_is_that_of_a_model_fitted_on_all_training_people(held: Held) -> None:
    (folder,) = held.finals.glob("model/*")
    experiment = read_experiment(folder)
    context = open_context(experiment.data, experiment.backbone, CPU)
    assert (experiment.part, experiment.seed) == ("train_all", SEEDS[0])
    found = score(context, load_run(folder, device=CPU), context.pixel_inputs, "test").mean("map")
    clip = assemble(Experiment(strategy=ZeroShot(), data=DORSAL, backbone=experiment.backbone), context).model
    baseline = score(context, clip, context.pixel_inputs, "test").mean("map")
    opened, looked = access_log_of(held.storage).entries()
    assert (opened.event, looked.event) == (OPENED, SCORED)
    figures = looked.values["figures"]
    assert figures["winner"]["map"]["value"] == pytest.approx(found, abs=1e-6)
    assert figures["clip"]["map"]["value"] == pytest.approx(baseline, abs=1e-6)
    assert figures["gap"]["map"]["difference"] == pytest.approx(found - baseline, abs=1e-6)
    assert opened.values["sweep"] == "tiny"
    assert all(len(opened.values[name]) == 64 for name in ("config", "data", "manifest"))
    assert opened.values["code"]
    assert read_validation(folder).thresholds.origin == BEFORE


def test_what_is_complete_does_not_run_again_and_a_second_look_is_counted(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = sorted((again / "tiny" / "finals").glob("**/handclip_final.pth"))
    before = [path.stat().st_mtime_ns for path in weights]
    assert hold(again, with_test=True) == 0
    assert [path.stat().st_mtime_ns for path in weights] == before
    said = capsys.readouterr().out
    assert "10 of 12 runs are complete already" in said
    assert "opening the test identities: access 2 to these 6" in said
    assert "Access 2 of 2 to these identities so far" in said
    assert "Access 1: " in said
    first, second = (entry for entry in access_log_of(again).entries() if entry.event == SCORED)
    assert first.values["figures"] == second.values["figures"]


@pytest.mark.faults
def test_the_next_command_tries_failed_runs_again_and_runs_more_seeds_without_a_new_look(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finals = again / "tiny" / "finals"
    before = [view.number for view in records_of(finals).all()]
    assert hold(again, seeds=3) == 0
    new = [view for view in records_of(finals).all() if view.number not in before]
    failed = [view for view in new if view.status is Status.FAILED]
    seeds = (*SEEDS, 1003)
    assert sorted((view.strategy, view.experiment.seed) for view in failed) == [("sequential_ewc", n) for n in seeds]
    assert {view.experiment.seed for view in new if view not in failed} == {1003}, "what is complete does not run again"
    said = capsys.readouterr().out
    assert all(f"sequential_ewc, trial 3, seed {seed}: InputError" in said for seed in seeds)
    assert "Access 1 of 1 to these identities so far" in said, "the last look stays in the report"
    assert len(access_log_of(again).entries()) == 2
    rows = finalists(finals).values()
    assert {row["seeds"] for row in rows if row["kind"] != "baseline"} == {"3"}


def test_a_broken_or_lost_ledger_is_refused_before_anything_runs(again: Path) -> None:
    access_log = access_log_of(again).path
    whole = access_log.read_text()
    access_log.write_text(whole.replace('"sweep":"tiny"', '"sweep":"other"'))
    with pytest.raises(InputError, match="line 1: was changed"):
        hold(again, with_test=True)
    access_log.write_text("")
    with pytest.raises(InputError, match=r"lacks a test access that .*final_test.json names"):
        hold(again, with_test=True)
    assert access_log.read_text() == ""


def test_runs_of_other_data_are_refused_by_name(again: Path) -> None:
    finals = again / "tiny" / "finals"
    facts = next(finals.glob("trials/*-full/*/run.json"))
    facts.write_text(facts.read_text().replace('"manifest_hash": "', '"manifest_hash": "0'))
    before = len(records_of(finals).all())
    with pytest.raises(InputError, match=f"{finals}: is of other data than the sweep has now"):
        hold(again)
    assert len(records_of(finals).all()) == before, "nothing runs before that"


def test_two_commands_on_one_sweep_do_not_mix(again: Path) -> None:
    taken = SweepLease(again / "tiny" / "finals")
    with taken, pytest.raises(InputError, match=f"finals: is being run by process {os.getpid()}"):
        hold(again)


@pytest.mark.faults
def test_sigterm_ends_the_command_with_how_to_go_on_and_it_goes_on(
    again: Path, worker_python: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finals = again / "tiny" / "finals"
    shutil.rmtree(finals)
    command = [sys.executable, "tune_jobs/finalists.py", "tiny", "--storage", str(again), "--top", "2", "--seeds", "2"]
    elsewhere = tempfile.mkdtemp(prefix="hc-fin-")  # a cluster of its own: socket names are short
    environment = {**os.environ, **for_drivers(worker_python), "RAY_TMPDIR": elsewhere}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for_text(finals / FILE, '"status":"complete"')
        process.terminate()
        _, said = process.communicate(timeout=LIMIT_S)
    shutil.rmtree(elsewhere, ignore_errors=True)
    assert process.returncode == 143
    assert "interrupted: complete runs are kept; go on with" in said
    assert f"tune_jobs/finalists.py tiny --storage {again} --top 2 --seeds 2" in said
    assert "Traceback" not in said
    complete = [view for view in records_of(finals).all() if view.status is Status.COMPLETE]
    assert 1 <= len(complete) < 10
    assert hold(again) == 0
    assert f"{len(complete)} of 12 runs are complete already" in capsys.readouterr().out
