"""Jobs on a small cluster: failures, lost processes, an end on demand."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from handclip_core.engine.phase import Optim
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full, ZeroShot
from tune_jobs.execution.cluster import Room
from tune_jobs.execution.signals import Interrupted
from tune_jobs.finals.jobs import Failed, Job, experiment_job, run_jobs

ROOM = Room(device="cpu", cpus=1, gpus=0.0, concurrent=2, num_nodes=1)
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def by_value(ray_cluster: None) -> Iterator[None]:
    """Workers cannot import this file."""
    del ray_cluster
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def note(folder: str, name: str) -> None:
    (Path(folder) / name).write_text(str(os.getpid()))


def fail(folder: str, name: str) -> None:
    raise RuntimeError(f"{name} in {Path(folder).name}\nat length")


def die_once(folder: str, name: str) -> None:
    path = Path(folder) / name
    if not path.exists():
        path.write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text("alive")


def wait(folder: str, name: str) -> None:
    (Path(folder) / name).write_text("began")
    time.sleep(60)
    (Path(folder) / name).write_text("ended")


def hungry(folder: str, experiment: dict[str, Any], device: str, threads: int) -> None:
    del device, threads
    tried = Path(folder) / "tried"
    tried.write_text(f"{tried.read_text() if tried.exists() else ''}{experiment['micro_batch']} ")
    if experiment["micro_batch"] is None or experiment["micro_batch"] > 8:
        raise MemoryError("too much")


def run(jobs: list[Job], stop_wanted: threading.Event | None = None) -> dict[str, Failed | None]:
    ends: dict[str, Failed | None] = {}

    def ended(job: Job, failed: Failed | None) -> None:
        ends[job.name] = failed

    run_jobs(jobs, ROOM, stop_wanted=stop_wanted or threading.Event(), ended=ended)
    return ends


def test_a_job_that_fails_is_heard_of_and_the_others_run_in_processes_that_stay(tmp_path: Path) -> None:
    jobs = [Job(str(number), note, (str(tmp_path), str(number))) for number in range(6)]
    ends = run([*jobs, Job("bad", fail, (str(tmp_path), "luck"))])
    bad = ends.pop("bad")
    assert bad is not None
    assert bad.reason == f"RuntimeError: luck in {tmp_path.name}"
    assert "at length" in bad.traceback
    assert ends == dict.fromkeys(map(str, range(6)))
    assert len({path.read_text() for path in tmp_path.iterdir()}) <= 3


def test_a_job_whose_process_is_lost_is_begun_once_more(tmp_path: Path) -> None:
    assert run([Job("job", die_once, (str(tmp_path), "life"))]) == {"job": None}
    assert (tmp_path / "life").read_text() == "alive"


@pytest.mark.parametrize(("batch_size", "tried"), [(40, "None 20 10 5 "), (4, "None 2 "), (2, "None 1 ")])
def test_a_job_out_of_memory_is_begun_again_with_half_the_images_at_a_time(
    tmp_path: Path, batch_size: int, tried: str
) -> None:
    experiment = Experiment(strategy=Full(optim=Optim(batch_size=batch_size)))
    assert run([experiment_job("job", hungry, tmp_path, experiment, ROOM)]) == {"job": None}
    assert (tmp_path / "tried").read_text() == tried


def test_a_job_that_cannot_be_made_smaller_fails(tmp_path: Path) -> None:
    (failed,) = run([experiment_job("job", hungry, tmp_path, Experiment(strategy=ZeroShot()), ROOM)]).values()
    assert failed is not None
    assert failed.reason == "MemoryError: too much"


def test_an_end_on_demand_leaves_nothing_running(tmp_path: Path) -> None:
    stop_wanted = threading.Event()

    def demand() -> None:
        while not (tmp_path / "0").exists():
            time.sleep(0.05)
        stop_wanted.set()

    thread = threading.Thread(target=demand)
    thread.start()
    with pytest.raises(Interrupted):
        run([Job(str(number), wait, (str(tmp_path), str(number))) for number in range(4)], stop_wanted)
    thread.join()
    assert (tmp_path / "0").read_text() == "began"
    assert not (tmp_path / "3").exists()
    assert run([Job("next", note, (str(tmp_path), "next"))]) == {"next": None}
