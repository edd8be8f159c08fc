"""The leaderboard: every trial in one CSV file, best first."""

import csv
import io
from collections.abc import Sequence
from math import isnan
from pathlib import Path

from handclip_core.runs import write_text
from search_spaces.suggest import Primitive
from tune_jobs.records import Records, Status, TrialRecord

COLUMNS = (
    "rank", "trial", "strategy", "map", "cmc1", "unit",
    "seconds", "params_trained", "attempts", "micro_batch", "status",
)  # fmt: skip
"""The fixed columns; every drawn hyperparameter follows, under its path in an experiment."""
FILE = "leaderboard.csv"


def write_leaderboard(records: Records, folder: Path) -> None:
    """Write ``leaderboard.csv`` into ``folder``; readers see the old file or the new one."""
    write_text(folder / FILE, leaderboard(records.ranked()))


def leaderboard(ranked: Sequence[TrialRecord]) -> str:
    """CSV text of trials that are sorted already.

    ``unit`` counts the units trained, ``attempts`` how often a worker took the trial up; ``micro_batch`` is there where
    a trial ran out of memory and went on with smaller parts of a batch. A failed trial's status names the reason.
    Hyperparameters that a trial's strategy does not have are blank, as are scores that were never measured.
    """
    drawn = list(dict.fromkeys(name for record in sorted(ranked, key=_number) for name in record.params))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *drawn])
    for rank, record in enumerate(ranked, start=1):
        fixed = _fixed(record, rank if record.judged else None)
        writer.writerow([*fixed, *(_cell(record.params[n]) if n in record.params else "" for n in drawn)])
    return text.getvalue()


def describe_status(record: TrialRecord) -> str:
    """The status, and why a trial failed."""
    return f"{record.status}: {record.reason}" if record.status is Status.FAILED else str(record.status)


def _fixed(record: TrialRecord, rank: int | None) -> tuple[str, ...]:
    return (
        "" if rank is None else str(rank),
        str(record.number),
        record.strategy,
        _score(record.map),
        _score(record.cmc1),
        str(record.unit),
        f"{record.seconds:.1f}",
        "" if record.params_trained is None else str(record.params_trained),
        str(record.attempts),
        "" if record.experiment.micro_batch is None else str(record.experiment.micro_batch),
        describe_status(record),
    )


def _score(value: float) -> str:
    return "" if isnan(value) else f"{value:.6f}"


def _cell(value: Primitive) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _number(record: TrialRecord) -> int:
    return record.number
