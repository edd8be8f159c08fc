"""Whole finals of a tiny sweep on a small cluster."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from handclip_core.errors import InputError
from handclip_core.evaluation.ledger import LOOKED, OPENED, Ledger
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_bench
from handclip_core.runs.experiment import Experiment, assemble, run, score
from handclip_core.runs.run_folder import load_run, read_experiment
from handclip_core.strategies import LinearProbe, SequentialEWC, ZeroShot
from handclip_core.types import Aspect
from tests.conftest import TINY_DATA
from tests.tune_jobs.finals.conftest import full, write_sweep
from tune_jobs.config.settings import Resources, SweepSettings
from tune_jobs.finals.past_sweep import read_sweep
from tune_jobs.finals.run import hold_finals
from tune_jobs.lifecycle.run import sweep

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
SEEDS = (1001, 1002)
DORSAL = TINY_DATA.model_copy(update={"aspects": (Aspect.DORSAL_RIGHT, Aspect.DORSAL_LEFT)})
IMPOSSIBLE = SequentialEWC(order=(Aspect.PALMAR_LEFT,))
pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Held:
    """Finals that were held once, and what they printed."""

    storage: Path
    code: int
    said: str

    @property
    def finals(self) -> Path:
        return self.storage / "tiny" / "finals"


def finalists(finals: Path) -> dict[str, dict[str, str]]:
    with (finals / "finalists.csv").open() as file:
        return {row["finalist"]: row for row in csv.DictReader(file)}


def hold(storage: Path, *, with_test: bool = False, seeds: int = 2) -> int:
    return hold_finals(read_sweep("tiny", storage), top=2, seeds=seeds, with_test=with_test)


def ledger_of(storage: Path) -> Ledger:
    return Ledger(storage / "test_looks.jsonl")


@pytest.fixture(scope="module")
def held(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> Held:
    """Finals with a look at the test people; one of the sweep's best configurations does not fit the data."""
    del ray_cluster
    storage = tmp_path_factory.mktemp("runs")
    trials = ((ZeroShot(), "0.50"), (LinearProbe(), "0.52"), (full(1e-3), "0.70"), (IMPOSSIBLE, "0.71"))
    write_sweep(storage / "tiny", trials, backbone=tiny_backbones["vit"], data=DORSAL)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
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
    experiment = read_experiment(held.storage / "tiny" / "trials" / "0002-full")
    last = []
    for seed in SEEDS:
        *_, progress = run(experiment.model_copy(update={"seed": seed}), device=CPU)
        last.append(progress.metrics["map"])
    assert float(row["map"]) == pytest.approx(np.mean(last), abs=1e-6)
    assert float(row["map_sd"]) == pytest.approx(np.std(last, ddof=1), abs=1e-6)
    assert float(row["swept_map"]) == 0.7


def test_every_configuration_ran_on_the_same_fresh_seeds(held: Held) -> None:
    complete = [path.parent for path in held.finals.glob("runs/*/*/run.json")]
    assert len(complete) == len(SEEDS) * 5
    assert all(folder.name == f"seed-{read_experiment(folder).seed}" for folder in complete)
    assert {read_experiment(folder).seed for folder in complete} == set(SEEDS)


def test_a_failed_run_is_named_and_the_rest_goes_on(held: Held) -> None:
    for seed in SEEDS:
        assert f"sequential_ewc, trial 3, seed {seed} failed: InputError: strategy.order" in held.said
        (folder,) = held.finals.glob(f"runs/sequential_ewc-*/seed-{seed}/error.txt")
        assert folder.read_text().splitlines()[-1].endswith("no training picture shows any of palmar left")
        assert "\x1b" not in folder.read_text()
    found = finalists(held.finals)
    assert "sequential_ewc, trial 3" not in found
    assert {"full, trial 2", "linear_probe, trial 1", "zero_shot, trial 0", "sequential_ewc, default"} <= set(found)
    assert "sequential_ewc, trial 3, seed 1001: InputError" in (held.finals / "report.md").read_text()


def test_mixtures_stand_beside_what_they_are_made_of(held: Held) -> None:
    kinds = [row["kind"] for name, row in finalists(held.finals).items() if name.startswith("full, ")]
    assert sorted(kinds) in (["mixture"] * 2 + ["trained"] * 2, ["mixture"] * 3 + ["trained"] * 2)
    assert any("WiSE-FT" in name for name in finalists(held.finals))


def test_the_verdict_has_every_strategy_and_the_sweeps_maximum_is_called_optimistic(held: Held) -> None:
    with (held.finals / "verdict.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["strategy"] for row in rows} == {"zero_shot", "linear_probe", "full", "sequential_ewc"}
    assert [row["verdict"] for row in rows].count("winner") == 1
    assert {row["verdict"] for row in rows} <= {"winner", "worse", "no difference shown"}
    full_row = next(row for row in rows if row["strategy"] == "full")
    assert float(full_row["search_hours"]) == pytest.approx(36 / 3600)
    assert float(full_row["images_s"]) > 0
    assert "The sweep's own maximum, 71.00 by trial 3 (sequential_ewc)" in held.said
    assert "optimistic, and no result" in held.said


def test_the_look_is_that_of_a_model_fitted_on_all_training_people(held: Held) -> None:
    (folder,) = held.finals.glob("model/*")
    experiment = read_experiment(folder)
    bench = open_bench(experiment.data, experiment.backbone, CPU)
    assert (experiment.part, experiment.seed) == ("train_all", SEEDS[0])
    found = score(bench, load_run(folder, device=CPU), bench.pixel_inputs, "test").overall.map.mean
    clip = assemble(Experiment(strategy=ZeroShot(), data=DORSAL, backbone=experiment.backbone), bench).model
    baseline = score(bench, clip, bench.pixel_inputs, "test").overall.map.mean
    opened, looked = ledger_of(held.storage).entries()
    assert (opened.event, looked.event) == (OPENED, LOOKED)
    figures = looked.values["figures"]
    assert figures["winner"]["map"]["value"] == pytest.approx(found, abs=1e-6)
    assert figures["clip"]["map"]["value"] == pytest.approx(baseline, abs=1e-6)
    assert figures["gap"]["map"]["difference"] == pytest.approx(found - baseline, abs=1e-6)
    assert opened.values["sweep"] == "tiny"
    assert all(len(opened.values[name]) == 64 for name in ("config", "data", "manifest"))
    assert opened.values["code"]


def test_what_is_complete_does_not_run_again_and_a_second_look_is_counted(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = sorted((again / "tiny" / "finals").glob("**/handclip_final.pth"))
    before = [path.stat().st_mtime_ns for path in weights]
    assert hold(again, with_test=True) == 0
    assert [path.stat().st_mtime_ns for path in weights] == before
    said = capsys.readouterr().out
    assert "10 of 12 runs are complete already" in said
    assert "opening the test people: look 2 at these 6" in said
    assert "Look 2 of 2 at these people so far" in said
    assert "Look 1: " in said
    first, second = (entry for entry in ledger_of(again).entries() if entry.event == LOOKED)
    assert first.values["figures"] == second.values["figures"]


def test_without_a_new_look_the_last_one_stays_in_the_report_and_more_seeds_run(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hold(again, seeds=3) == 0
    assert "Look 1 of 1 at these people so far" in capsys.readouterr().out
    assert len(ledger_of(again).entries()) == 2
    assert {row["seeds"] for row in finalists(again / "tiny" / "finals").values()} == {"3"}


def test_a_broken_or_lost_ledger_is_refused_before_anything_runs(again: Path) -> None:
    ledger = ledger_of(again).path
    whole = ledger.read_text()
    ledger.write_text(whole.replace('"sweep":"tiny"', '"sweep":"other"'))
    with pytest.raises(InputError, match="line 1: was changed"):
        hold(again, with_test=True)
    ledger.write_text("")
    with pytest.raises(InputError, match=r"lacks a look that .*final_test.json names"):
        hold(again, with_test=True)
    assert ledger.read_text() == ""


def test_runs_of_other_data_are_refused_by_name(again: Path) -> None:
    facts = next((again / "tiny" / "finals" / "runs").glob("full-*/seed-1001/run.json"))
    facts.write_text(facts.read_text().replace('"manifest_hash": "', '"manifest_hash": "0'))
    with pytest.raises(InputError, match=f"{facts.parent}: is of other data"):
        hold(again)


def test_two_commands_on_one_sweep_do_not_mix(again: Path) -> None:
    with FileLock(again / "tiny" / "finals" / ".lock"), pytest.raises(InputError, match="another finalists command"):
        hold(again)


def test_sigterm_ends_the_command_with_how_to_go_on_and_it_goes_on(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = [path.parent for path in again.glob("tiny/finals/runs/*/seed-1002/run.json")]
    for folder in late:
        shutil.rmtree(folder)
    command = [sys.executable, "tune_jobs/finalists.py", "tiny", "--storage", str(again), "--top", "2", "--seeds", "2"]
    elsewhere = tempfile.mkdtemp(prefix="hc-fin-")  # a cluster of its own: socket names are short
    environment = {**os.environ, "RAY_TMPDIR": elsewhere}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 120
        while time.monotonic() < end and not any((folder / "run.json").exists() for folder in late):
            time.sleep(0.05)
        process.terminate()
        _, said = process.communicate(timeout=60)
    shutil.rmtree(elsewhere, ignore_errors=True)
    assert process.returncode == 130
    assert "interrupted: complete runs are kept; go on with" in said
    assert f"tune_jobs/finalists.py tiny --storage {again} --top 2 --seeds 2" in said
    assert "Traceback" not in said
    assert hold(again) == 0
    assert "of 12 runs are complete already" in capsys.readouterr().out


def test_the_finals_of_a_real_sweep(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    del ray_cluster
    settings = SweepSettings(
        name="tiny",
        data=TINY_DATA,
        backbone=tiny_backbones["vit"],
        strategies=("zero_shot", "linear_probe"),
        trials=3,
        budget=1,
        resources=Resources(concurrent=1),
        storage=tmp_path,
    )
    assert sweep(settings).exit_code == 0
    assert hold(tmp_path, seeds=1) == 0
    found = finalists(tmp_path / "tiny" / "finals")
    with (tmp_path / "tiny" / "leaderboard.csv").open() as file:
        probes = [row for row in csv.DictReader(file) if row["strategy"] == "linear_probe" and row["trial"]]
    best = max(probes, key=lambda row: float(row["map"]))["trial"]
    assert {row["trial"] for row in found.values() if row["kind"] == "trained"} == {"0", "1", best}
    assert {row["map_sd"] for row in found.values()} == {""}
