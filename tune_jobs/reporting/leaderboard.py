"""The leaderboard: every trial in one CSV file, best first."""

import csv
import io
from collections.abc import Sequence
from math import isnan
from pathlib import Path

from handclip_core.runs.run_folder import write_text
from handclip_core.runs.soups import SoupRow
from search_spaces.suggest import Primitive
from tune_jobs.state.trials import Records, Status, TrialRecord

COLUMNS = (
    "rank", "trial", "strategy", "map", "cmc1", "retention", "unit",
    "seconds", "params_trained", "seeds", "sd", "attempts", "micro_batch", "status",
)  # fmt: skip
"""The fixed columns; every drawn hyperparameter follows, under its path in an experiment."""
FILE = "leaderboard.csv"


def write_leaderboard(records: Records, folder: Path, mixtures: Sequence[SoupRow] = ()) -> None:
    """Write ``leaderboard.csv`` into ``folder``; readers see the old file or the new one."""
    write_text(folder / FILE, leaderboard(records.ranked(), mixtures))


def leaderboard(ranked: Sequence[TrialRecord], mixtures: Sequence[SoupRow] = ()) -> str:
    """CSV text of trials that are sorted already, and of ``mixtures`` of them, which have no number and used no time.

    ``retention`` is the share of zero-shot mAP that is left in place, ``unit`` counts the units trained on the present
    seed, ``sd`` is that of mAP over ``seeds``, ``attempts`` tells how
    often a worker took the trial up; ``micro_batch`` is there where a trial ran out of memory and went on with smaller
    parts of a batch. A failed trial's status names the reason. Hyperparameters that a trial's strategy does not have
    are blank, as are scores that were never measured.
    """
    drawn = list(dict.fromkeys(name for record in sorted(ranked, key=_number) for name in record.params))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *drawn])
    judged = [record for record in ranked if record.judged]
    entries: list[TrialRecord | SoupRow] = sorted([*judged, *mixtures], key=lambda entry: -entry.map)
    for rank, entry in enumerate(entries, start=1):
        fixed = _mixed(entry, rank) if isinstance(entry, SoupRow) else _fixed(entry, rank)
        writer.writerow([*fixed, *_drawn(entry, drawn)])
    for record in ranked:
        if not record.judged:
            writer.writerow([*_fixed(record, None), *_drawn(record, drawn)])
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
        _score(record.retention),
        str(record.unit),
        f"{record.seconds:.1f}",
        "" if record.params_trained is None else str(record.params_trained),
        str(max(1, len(record.seeds))),
        _score(record.sd),
        str(record.attempts),
        "" if record.experiment.micro_batch is None else str(record.experiment.micro_batch),
        describe_status(record),
    )


def _mixed(row: SoupRow, rank: int) -> tuple[str, ...]:
    cells = {"rank": str(rank), "strategy": row.strategy, "map": _score(row.map), "cmc1": _score(row.cmc1)}
    cells["status"] = row.status
    return tuple(cells.get(column, "") for column in COLUMNS)


def _drawn(entry: TrialRecord | SoupRow, names: Sequence[str]) -> list[str]:
    params = {} if isinstance(entry, SoupRow) else entry.params
    return [_cell(params[name]) if name in params else "" for name in names]


def _score(value: float) -> str:
    return "" if isnan(value) else f"{value:.6f}"


def _cell(value: Primitive) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _number(record: TrialRecord) -> int:
    return record.number
