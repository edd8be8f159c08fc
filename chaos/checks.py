"""What must hold of a sweep's folder after any fault, and what of two sweeps one of which was disturbed."""

import csv
from collections import Counter
from collections.abc import Sequence
from math import isnan
from pathlib import Path

from optuna.trial import FrozenTrial

from tune_jobs.config.settings import SETTINGS, load_settings
from tune_jobs.lifecycle.exports import study_url
from tune_jobs.lifecycle.folders import BEST
from tune_jobs.reporting.leaderboard import FILE as LEADERBOARD
from tune_jobs.reporting.leaderboard import leaderboard
from tune_jobs.state.events import Ended, Event, Validated
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import TRIALS, Trials, folded
from tune_jobs.storage.study_database import find_study

STATE_OF = {Status.COMPLETE: "COMPLETE", Status.STOPPED: "PRUNED", Status.FAILED: "FAIL"}
"""What the study calls a trial's end."""
HALF_WRITTEN = (".partial", ".tmp", "-wal", "-shm", "-journal")
"""How the names of files end that are there only while something is being written."""


def lost(before: Sequence[Event], after: Sequence[Event]) -> list[str]:
    """What was in a journal and is not any more: results, ends of trials, or anything else."""
    if list(after[: len(before)]) == list(before):
        return []
    kept = set(map(_line, after))
    gone = [event for event in before if _line(event) not in kept]
    return [f"lost: {_line(event)}" for event in gone] or ["the journal's lines stand in another order"]


def unsound(folder: Path) -> list[str]:
    """What is wrong with a finished sweep: trials counted twice or not ended, disagreement, remains of writing."""
    settings, events = load_settings(folder / SETTINGS), read_journal(folder / FILE)
    settings = settings.model_copy(update={"name": folder.name, "storage": folder.parent})
    all_trials = folded(events)
    study = find_study(study_url(settings, folder), name=settings.name)
    return [
        *_miscounted(events, all_trials, wanted=settings.trials),
        *_off_the_leaderboard(folder, all_trials),
        *_off_the_study(study.trials if study is not None else [], all_trials),
        *_left_over(folder, all_trials),
    ]


def differences(calm: Trials, disturbed: Trials, *, same_scores: bool) -> list[str]:
    """How a disturbed sweep differs from one left in peace.

    With ``same_scores``, where one trial ran at a time, every trial must have drawn, validated and ended alike.
    Otherwise the order in which trials end decides what is drawn next, and only their numbers can be compared.
    """
    if set(calm.trials) != set(disturbed.trials):
        return [f"trials {sorted(calm.trials)} undisturbed, {sorted(disturbed.trials)} disturbed"]
    if not same_scores:
        return []
    pairs = [(calm.trials[number], disturbed.trials[number]) for number in sorted(calm.trials)]
    return [line for pair in pairs for line in _different(*pair)]


def _different(calm: TrialView, disturbed: TrialView) -> list[str]:
    lines = []
    for name in ("strategy", "params", "status", "unit", "curve", "score", "best_unit"):
        before, after = getattr(calm, name), getattr(disturbed, name)
        if before != after and not (name == "score" and isnan(before) and isnan(after)):
            lines.append(f"trial {calm.number}: {name} {before} undisturbed, {after} disturbed")
    return lines


def _miscounted(events: Sequence[Event], all_trials: Trials, *, wanted: int) -> list[str]:
    ends = Counter(event.trial for event in events if isinstance(event, Ended))
    lines = [f"trial {number} has ended {count} times" for number, count in ends.items() if count > 1]
    lines += [f"trial {view.number} has not ended" for view in all_trials.unfinished()]
    if len(all_trials.trials) > wanted:
        lines.append(f"{len(all_trials.trials)} trials, {wanted} were wanted")
    firsts: dict[tuple[int, int], float] = {}
    for event in events:
        if isinstance(event, Validated):
            score = all_trials.trials[event.trial].score_of(event.metrics)
            if firsts.setdefault((event.trial, event.unit), score) != score:
                lines.append(f"trial {event.trial}: unit {event.unit} had other results when it was trained again")
    return lines


def _off_the_leaderboard(folder: Path, all_trials: Trials) -> list[str]:
    found, wanted = _rows((folder / LEADERBOARD).read_text(encoding="utf-8")), _rows(leaderboard(all_trials))
    return [f"trial {n}: another row on the leaderboard" for n in found | wanted if found.get(n) != wanted.get(n)]


def _rows(text: str) -> dict[str, dict[str, str]]:
    """The rows of trials by number. Rows of anything else may stand among them, so ranks are left out."""
    rows = csv.DictReader(text.splitlines())
    return {row["trial"]: {key: row[key] for key in row if key != "rank"} for row in rows if row["trial"]}


def _off_the_study(trials: Sequence[FrozenTrial], all_trials: Trials) -> list[str]:
    by_number = {trial.number: trial for trial in trials}
    lines = [f"trial {number} is in the study alone" for number in by_number if number not in all_trials.trials]
    for view in all_trials.all():
        trial = by_number.get(view.number)
        if trial is None:
            lines.append(f"trial {view.number} is not in the study")
        elif trial.state.name != STATE_OF.get(view.status):
            lines.append(f"trial {view.number}: {view.status}, but {trial.state.name} in the study")
        elif trial.intermediate_values != view.curve:
            lines.append(f"trial {view.number}: another curve in the study")
    return lines


def _left_over(folder: Path, all_trials: Trials) -> list[str]:
    """Files that only an interrupted write leaves, and saved states that the journal does not know."""
    paths = [path for path in folder.rglob("*") if path.name.endswith(HALF_WRITTEN)]
    known = {folder / view.checkpoint for view in all_trials.all() if view.checkpoint is not None}
    weightless = [path for path in (folder / TRIALS).glob("*/checkpoint_*") if path not in known and _heavy(path)]
    missing = [] if all_trials.winner is None or (folder / BEST).is_dir() else [folder / BEST]
    return [f"left over: {path.relative_to(folder)}" for path in (*paths, *weightless)] + [
        f"missing: {path.relative_to(folder)}" for path in missing
    ]


def _heavy(checkpoint: Path) -> bool:
    """Whether more than a training log is in it."""
    return any(path.suffix == ".pth" for path in checkpoint.iterdir())


def _line(event: Event) -> str:
    return event.model_dump_json()
