"""A sweep that is over, as its folder tells it: settings, leaderboard, and the settings of every trial."""

import csv
from dataclasses import dataclass
from pathlib import Path

from handclip_core.config import read_yaml
from handclip_core.errors import InputError
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import CONFIG
from tune_jobs.config.settings import SETTINGS, Resources, load_settings
from tune_jobs.reporting.leaderboard import FILE
from tune_jobs.reporting.summary import look_back
from tune_jobs.state.journal import FILE as JOURNAL
from tune_jobs.state.journal import read_journal
from tune_jobs.state.trials import folded

TRIALS = "trials"


@dataclass(frozen=True)
class Tried:
    """A trial with a score: ``map`` is that of its best unit, on the sweep's own seed."""

    number: int
    strategy: str
    map: float
    experiment: Experiment


@dataclass(frozen=True)
class PastSweep:
    """What a sweep has left; ``tried`` from the best to the worst.

    ``seconds`` is the time that workers spent on each strategy, trials without a score included, in the order in which
    the strategies were begun; ``resources`` are what a trial ran on, ``seed`` is the sweep's; ``stopping`` says in
    sentences what early stopping has saved and may have cost.
    """

    folder: Path
    resources: Resources
    seed: int
    tried: tuple[Tried, ...]
    seconds: dict[str, float]
    stopping: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.folder.name

    @property
    def strategies(self) -> tuple[str, ...]:
        """Every strategy that the sweep began."""
        return tuple(self.seconds)


def read_sweep(name: str, storage: Path) -> PastSweep:
    """The sweep ``name`` in ``storage``; raises InputError where there is none, or none of its trials has a score."""
    folder = storage.expanduser().resolve() / name
    if not (folder / SETTINGS).is_file():
        found = sorted(path.parent.name for path in folder.parent.glob(f"*/{SETTINGS}"))
        have = f"there are {', '.join(found)}" if found else "there are no sweeps; give their folder as --storage"
        raise InputError(f"{folder}: no sweep of this name; {have}")
    rows = _leaderboard(folder / FILE)
    tried = sorted((one for row in rows if (one := _tried(row, folder)) is not None), key=lambda one: -one.map)
    if not tried:
        raise InputError(f"{folder}: no trial has a score yet; let the sweep end first")
    # No more of the settings than is needed, so that sweeps of an earlier version can have finals.
    settings = read_yaml(folder / SETTINGS)
    resources = Resources.parse(settings.get("resources", {}), source=f"{folder / SETTINGS}, resources")
    seconds: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: int(row["trial"])):
        seconds[row["strategy"]] = seconds.get(row["strategy"], 0.0) + resources.workers * float(row["seconds"] or 0)
    return PastSweep(folder, resources, int(settings.get("seed", 0)), tuple(tried), seconds, _stopping(folder))


def _leaderboard(path: Path) -> list[dict[str, str]]:
    """The rows of trials; rows of mixtures have no number."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, so no trial has a score yet; let the sweep end first") from None
    wanted = {"trial", "strategy", "map", "seconds", "status"}
    if rows and not wanted <= rows[0].keys():
        raise InputError(f"{path}: not a leaderboard; it lacks {', '.join(sorted(wanted - rows[0].keys()))}")
    return [row for row in rows if row["trial"]]


def _stopping(folder: Path) -> tuple[str, ...]:
    """The audit of early stopping; nothing where there is no journal, or one of another version."""
    try:
        records = folded(read_journal(folder / JOURNAL))
        return tuple(look_back(records, load_settings(folder / SETTINGS))) if records.trials else ()
    except InputError:
        return ()


def _tried(row: dict[str, str], folder: Path) -> Tried | None:
    """The trial of a row; None where it has no score."""
    if not row["map"] or row["status"].startswith("failed"):
        return None
    number, strategy = int(row["trial"]), row["strategy"]
    experiment = Experiment.from_file(folder / TRIALS / f"{number:04d}-{strategy}" / CONFIG)
    return Tried(number, strategy, float(row["map"]), experiment)
