"""Whole finals of a tiny sweep on a small cluster."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chaos.processes import is_training, read_process, wait_until
from handclip_core.errors import InputError
from handclip_core.evaluation.access_log import OPENED, SCORED, AccessLog
from handclip_core.evaluation.baselines import BASELINES
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.backbone import BackboneSettings
from handclip_core.paths import STATE_VARIABLE
from handclip_core.runs.baselines import baseline_scores
from handclip_core.runs.context import open_context
from handclip_core.runs.ensemble_file import member_folders
from handclip_core.runs.experiment import Experiment, assemble, run, score
from handclip_core.runs.loaded import load_finished
from handclip_core.runs.run_folder import load_run, read_experiment
from handclip_core.runs.test_access import ACCESS_LOG
from handclip_core.runs.validation import BEFORE, read_validation
from handclip_core.serving.model import open_run
from handclip_core.strategies import LinearProbe, SequentialEWC, ZeroShot
from handclip_core.types import Aspect
from tests.conftest import TINY_DATA
from tests.limits import LIMIT_S
from tests.tune_jobs.finals.conftest import full, write_sweep
from tests.warm_workers import for_drivers
from tune_jobs.config.settings import Resources, SweepSettings
from tune_jobs.finals.baselines import BaselineScores
from tune_jobs.finals.build import Finals
from tune_jobs.finals.mixtures import Entrant, Kind
from tune_jobs.finals.past_sweep import read_sweep
from tune_jobs.finals.ranking import Standings, rank
from tune_jobs.finals.run import hold_finals
from tune_jobs.lifecycle.run import sweep
from tune_jobs.state.events import Retried, Started, Validated
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trials import Status, Trials, folded
from tune_jobs.storage.lease import SweepLease
from tune_jobs.storage.location import BucketLocation, files_below, folder_of

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


def records_of(finals: Path) -> Trials:
    return folded(read_journal(finals / FILE))


def finalists(finals: Path) -> dict[str, dict[str, str]]:
    with (finals / "finalists.csv").open() as file:
        return {row["finalist"]: row for row in csv.DictReader(file)}


def hold(storage: Path, *, with_test: bool = False, seeds: int = 2) -> int:
    return hold_finals(read_sweep(storage / "tiny"), top=2, seeds=seeds, with_test=with_test)


def access_log_of(storage: Path) -> AccessLog:
    return AccessLog(storage / "test_looks.jsonl")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accesses of other tests are none of ours."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))


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


def wait_for_text(path: Path, text: str, *, times: int = 1) -> None:
    """Wait until a file has a text so often."""

    def found() -> bool:
        return path.exists() and path.read_text().count(text) >= times

    wait_until(found, what=f"{text} in {path}", limit_s=LIMIT_S, every_s=0.02)


def test_a_worker_that_is_killed_amid_a_run_is_replaced_by_one_that_goes_on_from_its_checkpoint(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    del ray_cluster
    changed: dict[str, Any] = {"budget": 12, "retries": 1, "resources": {"concurrent": 1}, "checkpoint_every_s": 0.0}
    trials = ((full(1e-3), 0.7),)
    write_sweep(tmp_path / "tiny", trials, backbone=tiny_backbones["vit"], data=DORSAL, **changed)
    finals, killed = tmp_path / "tiny" / "finals", list[int]()
    killer = threading.Thread(target=kill_a_worker, args=(finals / FILE, killed))
    killer.start()
    assert hold_finals(read_sweep(tmp_path / "tiny"), top=1, seeds=1, with_test=False) == 0
    killer.join()
    assert killed, "the run was over before anything could be killed"
    first, *others = records_of(finals).all()
    assert {view.status for view in (first, *others)} == {Status.COMPLETE}
    assert (first.attempts, {view.attempts for view in others}) == (2, {1})
    events = [event for event in read_journal(finals / FILE) if getattr(event, "trial", None) == first.number]
    assert [type(event) for event in events].count(Retried) == 1
    taken_up = max(place for place, event in enumerate(events) if isinstance(event, Started))
    assert next(event.unit for event in events[taken_up:] if isinstance(event, Validated)) > 1
    *_, last = run(first.experiment, device=CPU)
    row = finalists(finals)["full, trial 0"]
    assert float(row["map"]) == pytest.approx(last.metrics["map"], abs=1e-6)
    assert float(row["peak_map"]) == pytest.approx(first.score, abs=1e-6)


def kill_a_worker(journal: Path, killed: list[int]) -> None:
    """Once a run has saved its state twice, end its process."""
    wait_for_text(journal, '"saved"', times=2)
    ours = f"HANDCLIP_CACHE={os.environ['HANDCLIP_CACHE']}".encode()
    while not killed:
        for path in Path("/proc").glob("[0-9]*"):
            process = read_process(int(path.name))
            if process is not None and is_training(process) and ours in (path / "environ").read_bytes().split(b"\0"):
                process.send(signal.SIGKILL)
                killed.append(process.pid)


@pytest.mark.faults
def test_finals_of_a_sweep_in_a_bucket_are_there_for_other_machines(
    ray_cluster: None,
    tiny_backbones: dict[str, BackboneSettings],
    bucket: BucketLocation,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del ray_cluster
    write_sweep(tmp_path / "tiny", ((ZeroShot(), 0.5), (LinearProbe(), 0.6)), backbone=tiny_backbones["vit"])
    sweep, finals = bucket / "tiny", bucket / "tiny" / "finals"
    (sweep / "sweep.yaml").write((tmp_path / "tiny" / "sweep.yaml").read_bytes())
    (sweep / "journal/000000.jsonl").write((tmp_path / "tiny" / FILE).read_bytes())
    assert hold_finals(read_sweep(sweep), top=1, seeds=1, with_test=True) == 0
    assert f"saved in {sweep}: report.html" in capsys.readouterr().out
    files = files_below(finals)
    assert {"report.json", "finalists.csv", "journal/000000.jsonl", "final_test.json"} <= {*files}
    assert len([path for path in files if path.startswith("trials/") and path.endswith("/run.json")]) == 2
    assert any(path.startswith("model/") and path.endswith("handclip_best.pth") for path in files)
    assert b"Winner: " in ((sweep / "report.md").read() or b"")
    access_log = (bucket / ACCESS_LOG).read()
    assert access_log is not None
    assert [json.loads(line)["event"] for line in access_log.splitlines()] == [OPENED, SCORED]
    assert not [path for path in files if path.startswith("driver.")], "the lease is released"

    shutil.rmtree(folder_of(sweep).parent.parent)  # another machine has none of it
    before = (finals / "finalists.csv").read()
    assert hold_finals(read_sweep(sweep), top=1, seeds=1, with_test=False) == 0
    said = capsys.readouterr().out
    assert "2 of 2 runs are complete already" in said
    assert "Access 1 of 1 to these identities so far" in said
    assert (finals / "finalists.csv").read() == before
    assert (bucket / ACCESS_LOG).read() == access_log


@pytest.mark.faults
def test_a_fusion_that_wins_is_fitted_again_and_kept_to_be_used(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ray_cluster
    write_sweep(tmp_path / "tiny", ((ZeroShot(), 0.5), (ZeroShot(), 0.4)), backbone=tuple(tiny_backbones.values()))
    everyone: list[Entrant] = []

    def only_fused(entrants: list[Entrant], baselines: Mapping[str, Evaluation]) -> Standings:
        everyone.extend(entrants)
        return rank([one for one in entrants if one.recipe.kind is Kind.FUSION], baselines)

    monkeypatch.setattr("tune_jobs.finals.run.rank", only_fused)
    monkeypatch.setattr(Finals, "baselines", lambda _: BaselineScores({}))  # scored by a test of their own
    assert hold(tmp_path, with_test=True, seeds=1) == 0
    finals = tmp_path / "tiny" / "finals"
    (row,) = (row for row in finalists(finals).values() if row["kind"] == "fusion")
    assert row["backbone"] in ("vit + resnet", "resnet + vit")
    fused = next(one for one in everyone if one.recipe.kind is Kind.FUSION)
    assert len(everyone) == 3
    assert float(row["map"]) == fused.mean
    fits = [view for view in records_of(finals).all() if view.experiment.part == "train_all"]
    assert {view.experiment.backbone for view in fits} == set(tiny_backbones.values())
    (entry,) = (entry for entry in access_log_of(tmp_path).entries() if entry.event == SCORED)
    (folder,) = (finals / "model").iterdir()
    whole = load_finished(folder, device=CPU)
    found = score(whole.context, whole.model, whole.inputs, "test").mean("map")
    assert entry.values["figures"]["winner"]["map"]["value"] == pytest.approx(found, abs=1e-6)
    assert entry.values["chosen"] == row["finalist"]
    assert read_validation(folder).thresholds.origin == BEFORE
    assert open_run(folder).width == sum(load_run(path, device=CPU).width for path in member_folders(folder))


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
