"""Finals as the list of experiments that they are: of a real sweep, of one in a bucket, amid a fault, with a fusion."""

import csv
import json
import os
import shutil
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chaos.processes import is_training, read_process
from handclip_core.evaluation.access_log import OPENED, SCORED
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.baselines import BaselineScores
from handclip_core.runs.ensemble_file import member_folders
from handclip_core.runs.experiment import run, score
from handclip_core.runs.loaded import load_finished
from handclip_core.runs.run_folder import load_run
from handclip_core.runs.test_access import ACCESS_LOG
from handclip_core.runs.validation import BEFORE, read_validation
from handclip_core.serving.model import open_run
from handclip_core.strategies import LinearProbe, ZeroShot
from tests.conftest import TINY_DATA
from tests.tune_jobs.finals.conftest import full, write_sweep
from tests.tune_jobs.finals.holding import CPU, DORSAL, access_log_of, finalists, hold, records_of, wait_for_text
from tune_jobs.config.settings import Resources, SweepSettings
from tune_jobs.finals.build import Finals
from tune_jobs.finals.mixtures import Entrant, Kind
from tune_jobs.finals.past_sweep import read_sweep
from tune_jobs.finals.ranking import Standings, rank
from tune_jobs.finals.run import hold_finals
from tune_jobs.lifecycle.run import sweep
from tune_jobs.state.events import Retried, Started, Validated
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trial import Status
from tune_jobs.storage.location import BucketLocation, files_below, folder_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("own_state")]


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
