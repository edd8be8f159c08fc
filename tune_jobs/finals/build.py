"""The finals of a sweep: its best configurations again, on fresh seeds that all of them share."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from filelock import FileLock, Timeout

from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.devices import select_device
from handclip_core.errors import InputError
from handclip_core.evaluation.ledger import hash_of_test
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_bench
from handclip_core.runs.run_folder import write_text
from tune_jobs.execution import cluster
from tune_jobs.execution.cluster import Room
from tune_jobs.execution.signals import caught_signals
from tune_jobs.finals.candidates import Finalist, choose, fresh_seeds
from tune_jobs.finals.fit import finals_run, read_facts
from tune_jobs.finals.jobs import Failed, Job, experiment_job, run_jobs
from tune_jobs.finals.mixtures import SOUPS, Complete, Entrant, by_strategy, entrants_of, mix, pot_name, pot_of
from tune_jobs.finals.past_sweep import PastSweep
from tune_jobs.finals.ranking import Cost
from tune_jobs.reporting.summary import say

FOLDER, RUNS, SOUP_FOLDER, ERROR = "finals", "runs", "soups", "error.txt"


@dataclass(frozen=True)
class DataState:
    """Hashes of the sweep's data as they are now: of the manifest, and of the test pictures alone."""

    manifest_hash: str
    test_hash: str
    num_test_people: int


@dataclass
class Finals:
    """The finals of ``past`` on ``seeds``; ``failures`` names runs that failed, with their reasons."""

    past: PastSweep
    finalists: list[Finalist]
    seeds: tuple[int, ...]
    room: Room
    data: DataState
    stop_wanted: Event
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where everything of the finals lies."""
        return self.past.folder / FOLDER

    @property
    def cost(self) -> Cost:
        """What a run holds while it trains."""
        room = self.room
        return Cost("GPU-hours", room.gpus) if room.gpus else Cost("CPU-hours", float(room.cpus))

    def entrants(self) -> list[Entrant]:
        """Run what has not been run, mix what can be mixed, and give all that came to an end on every seed."""
        self._run_all()
        complete = self.complete()
        self._mix_all(complete)
        return entrants_of(complete, self.folder / SOUP_FOLDER)

    def complete(self) -> list[Complete]:
        """Finalists whose runs on all seeds are complete, in the order of the finalists."""
        found = []
        for finalist in self.finalists:
            folders = tuple(finalist.folder(self.folder / RUNS, seed) for seed in self.seeds)
            facts = [read_facts(folder, finalist, manifest_hash=self.data.manifest_hash) for folder in folders]
            known = tuple(one for one in facts if one is not None)
            if len(known) == len(folders):
                found.append(Complete(finalist, folders, known))
        return found

    def run_jobs(self, jobs: Sequence[Job], *, what: str) -> None:
        """Run ``jobs``, saying how far they are; reasons of those that fail go to ``failures`` and to their folder."""
        if not jobs:
            return
        say(f"{what}: {len(jobs)}, {min(len(jobs), self.room.concurrent)} at a time on {self.room.device}")
        num_over = 0

        def ended(job: Job, failed: Failed | None) -> None:
            nonlocal num_over
            num_over += 1
            say(f"{num_over}/{len(jobs)} {job.name}{f' failed: {failed.reason}' if failed else ''}")
            error = Path(job.arguments[0]) / ERROR
            error.unlink(missing_ok=True)
            if failed:
                self.failures[job.name] = failed.reason
                error.parent.mkdir(parents=True, exist_ok=True)
                write_text(error, failed.traceback)

        run_jobs(jobs, self.room, stop_wanted=self.stop_wanted, ended=ended)

    def _run_all(self) -> None:
        # Seed by seed, so that what is there early already says something of every finalist.
        pairs = [(finalist, seed) for seed in self.seeds for finalist in self.finalists]
        waiting = [(finalist, seed) for finalist, seed in pairs if not self._is_complete(finalist, seed)]
        if len(waiting) < len(pairs):
            say(f"{len(pairs) - len(waiting)} of {len(pairs)} runs are complete already")
        self.run_jobs([self._job(finalist, seed) for finalist, seed in waiting], what="runs")

    def _mix_all(self, complete: Sequence[Complete]) -> None:
        jobs = []
        for strategy, group in by_strategy(complete).items():
            folder = self.folder / SOUP_FOLDER / pot_name(group)
            if len(group) > 1 and not (folder / SOUPS).exists():
                given = (str(folder), pot_of(group, self.seeds), self.room.device, self.room.cpus)
                jobs.append(Job(f"{strategy}, soups", mix, given))
        self.run_jobs(jobs, what="mixtures")

    def _is_complete(self, finalist: Finalist, seed: int) -> bool:
        folder = finalist.folder(self.folder / RUNS, seed)
        return read_facts(folder, finalist, manifest_hash=self.data.manifest_hash) is not None

    def _job(self, finalist: Finalist, seed: int) -> Job:
        folder = finalist.folder(self.folder / RUNS, seed)
        return experiment_job(f"{finalist.name}, seed {seed}", finals_run, folder, finalist.on(seed), self.room)


@contextmanager
def opened(past: PastSweep, *, top: int, seeds: int) -> Iterator[Finals]:
    """The finals of ``past``, locked against a second command at work on them; a signal sets ``stop_wanted``.

    Raises InputError where there is one, or cluster or data cannot be used.
    """
    folder = past.folder / FOLDER
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{folder}: another finalists command is at work here; wait for it, or end it") from None
    try:
        cluster.connect()
        # One process a run: several would give the same figures, and fewer runs at a time.
        room = cluster.make_room(past.resources.model_copy(update={"workers": 1}), cluster.nodes())
        example = past.tried[0].experiment
        wanted = (look_at_data, example.data, example.backbone, room.device)
        cluster.run_on_every_node(room, *wanted)
        data = cluster.run_where_trials_run(room, *wanted)
        used = [past.seed, *(one.experiment.seed for one in past.tried)]
        with caught_signals() as stop_wanted:  # not before: Ray takes the signals when it starts
            yield Finals(past, choose(past, top=top), fresh_seeds(used, seeds), room, data, stop_wanted)
    finally:
        lock.release()


def look_at_data(data: DrawnData | PreparedData, backbone: BackboneSettings, device: str) -> DataState:
    """Check the data, build the machine's caches, and give the hashes that results are tied to."""
    bench = open_bench(data, backbone, select_device(device))
    _ = bench.feature_inputs
    tested = bench.prepared.manifest.loc[bench.prepared.manifest["subset"] == "test", "identity"]
    return DataState(bench.prepared.protocol.manifest_hash, hash_of_test(bench.prepared), int(tested.nunique()))


def command_again() -> str:
    """The command line that began this process."""
    return shlex.join([sys.executable, *sys.argv])
