"""What a sweep says in words: before it starts, and at its end."""

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from handclip_core.evaluation.metrics import Metric
from handclip_core.runs.baselines import BaselineGap
from tune_jobs.config.settings import Limits, StoppingKind, SweepSettings
from tune_jobs.reporting.page import hours
from tune_jobs.reporting.power_analysis_text import power_analysis_of
from tune_jobs.reporting.progress import shown_metrics, trial_table
from tune_jobs.reporting.regret import early_stopping_regret
from tune_jobs.state.objectives import FRONT, front_lines, pareto_front
from tune_jobs.state.submission import in_ray_job
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials
from tune_jobs.state.usage import Usage
from tune_jobs.storage.location import StorageLocation, folder_of

BASELINE = "zero_shot"
ROWS = 30
PACKAGE = Path(__file__).resolve().parents[1]
PROGRAMS = {"sweep": "sweep.py", "finals": "finalists.py", "review": "review.py"}
"""The file of each command that is named in what is printed."""
LIMIT = "limits."
"""With this begins the reason of a sweep that has come to a limit."""


def log(text: str) -> None:
    """A line about what happens next."""
    print(f"-- {text}", flush=True)


def show_outcome(
    all_trials: Trials,
    *,
    folder: StorageLocation,
    settings: SweepSettings,
    reason: str,
    exported: bool = True,
    baselines: Sequence[BaselineGap] = (),
) -> None:
    """Print the leaderboard, zero-shot and ``baselines`` beside the winner, where everything lies, what to type next.

    Nothing is said of a folder of the winner that was not ``exported``. The best baseline stands first.
    ``reason`` says why the sweep ended before its last trial, if it did; then the command that resumes it is there too.
    """
    if reason:
        how = f"ended by {reason}" if reason.startswith(LIMIT) else reason
        print(f"\n{how}: what follows is the state so far")
    print()
    on_terminal = sys.stdout.isatty()  # a log has no width, and the reasons follow
    table = trial_table(all_trials, budget=settings.budget, rows=ROWS, reasons=on_terminal)
    Console(soft_wrap=not on_terminal).print(table)
    winner, objectives = all_trials.winner, settings.search.objectives
    front = pareto_front(all_trials, objectives) if len(objectives) > 1 else []
    lines = [
        "",
        *failures(all_trials),
        *hardly_moved_lines(all_trials, settings.early_stopping.second_rung),
        *power_analysis_of(all_trials, settings),
        *regret_lines(all_trials, settings),
        *front_lines(front, objectives),
        used(all_trials.usage, settings.limits),
    ]
    if winner is None:
        lines.append(f"no trial has ended with a score; settings, study and logs are in {shown(folder)}")
    else:
        lines += comparison(
            all_trials, winner, called=f"best {all_trials.task.metrics.objective.label}" if front else "winner"
        )
        label = all_trials.task.metrics.objective.label
        lines += [gap.sentence(label, of=len(baselines)) for gap in baselines[:1]]
        lines += [
            f"mixture    {_scores(mixture.metrics, shown_metrics(all_trials))}  {mixture.status}"
            for mixture in all_trials.mixtures[:1]
        ]
    if reason:
        lines += ["", *how_to_resume(all_trials, folder, reason)]
    elif winner is not None:
        own_database = settings.search.storage is None
        front_there = bool(front)
        lines += ["", *saved(folder, several_objectives=front_there, own_database=own_database, exported=exported)]
        lines += ["", *next_commands(folder, exported=exported)]
    print("\n".join(lines))


def hardly_moved_lines(all_trials: Trials, second_rung: int) -> list[str]:
    """Trials that trained for nothing, as it seems."""
    names = [f"trial {r.number} {r.arm}" for r in all_trials.all() if r.hardly_moved_by(second_rung)]
    return [f"{all_trials.task.metrics.hardly_moved}: {', '.join(names)}"] if names else []


def regret_lines(all_trials: Trials, settings: SweepSettings) -> list[str]:
    """What early stopping saved, and what it may have cost; nothing if it was off."""
    if settings.early_stopping.kind is StoppingKind.NONE:
        return []
    budget, first_rung = settings.budget, settings.early_stopping.grace
    return early_stopping_regret(all_trials.all(), budget=budget, first_rung=first_rung).lines()


def used(usage: Usage, limits: Limits) -> str:
    """Hours, GPU-hours and, if a price is known, what they cost."""
    parts = [f"{hours(usage.hours)} h"]
    if usage.gpu_hours > 0:
        parts.append(f"{usage.gpu_hours:.2f} GPU-hours")
    if limits.price_per_gpu_hour is not None:
        parts.append(f"cost {usage.gpu_hours * limits.price_per_gpu_hour:.2f}")
    return f"used       {', '.join(parts)}"


def how_to_resume(all_trials: Trials, folder: StorageLocation, reason: str) -> list[str]:
    """The command that goes on, and what of the work so far it will have to do again."""
    # Of a trial without a state the saved unit is -1.
    lost = [r for r in all_trials.unfinished() if r.unit > max(r.saved_unit, 0)]
    lines = [
        f"trial {r.number} {r.arm} was at unit {r.unit} and goes on from unit {max(r.saved_unit, 0)}" for r in lost
    ]
    raised = f" --set {reason.split(':')[0]}=..." if reason.startswith(LIMIT) else ""
    return [*lines, "resume with", f"  {resume_command(folder)}{raised}"]


def resume_command(folder: StorageLocation) -> str:
    """What to type to go on with the sweep at ``folder``; in a Ray job, what to submit."""
    command = "ray job submit --working-dir . -- python tune_jobs/sweep.py" if in_ray_job() else program("sweep")
    return f"{command} {shlex.quote(shown(folder))} --resume"


def comparison(all_trials: Trials, winner: TrialView, *, called: str = "winner") -> list[str]:
    """The baseline beside the winner, which is ``called`` so, on validation."""
    lines, metrics = [], shown_metrics(all_trials)
    baseline = baseline_of(all_trials, winner)
    if baseline is not None:
        lines.append(f"zero-shot  {_scores(baseline.metrics, metrics)}  trial {baseline.number} {baseline.arm}")
    gain = "" if baseline is None or baseline is winner else f"  {winner.score - baseline.score:+.4f}"
    lines.append(f"{called:<10} {_scores(winner.metrics, metrics)}  trial {winner.number} {winner.arm}{gain}")
    whose = "The winner's score" if called == "winner" else "It"
    lines.append(f"{whose} is the best of many on the same {all_trials.task.clusters}, so it flatters.")
    return lines


def baseline_of(all_trials: Trials, view: TrialView) -> TrialView | None:
    """The trial that used the backbone of ``view`` as it is, if there is one with a score."""
    known = (r for r in all_trials.all() if r.strategy == BASELINE and r.backbone == view.backbone and r.has_score)
    return next(known, None)


def _scores(found: Mapping[str, float], metrics: Sequence[Metric]) -> str:
    return "validation " + "  ".join(f"{metric.label} {found[metric.name]:.4f}" for metric in metrics)


def failures(all_trials: Trials) -> list[str]:
    """Failed trials with their reasons, and strategies that have nothing else."""
    failed = [r for r in all_trials.all() if r.status is Status.FAILED]
    lines = [f"trial {r.number} {r.arm} failed: {r.reason}" for r in failed]
    tried = Counter(r.arm for r in all_trials.all() if r.status.over)
    lost = Counter(r.arm for r in failed)
    return lines + [f"every trial of {name} failed" for name in tried if tried[name] == lost[name]]


def saved(
    folder: StorageLocation, *, several_objectives: bool, own_database: bool = True, exported: bool = True
) -> list[str]:
    """What lies where."""
    rows = {
        "report.html": "what came out of it: one page that opens offline; report.md and report.json say the same",
        "leaderboard.csv": "every trial with its hyperparameters",
        **({FRONT: "the trials that no other one beats in every objective"} if several_objectives else {}),
        **({"best/": "the winner: config.json, weights, embeddings, log, metrics"} if exported else {}),
        **({"study.db": "Optuna studies of all trials and of each strategy"} if own_database else {}),
        "journal.jsonl" if isinstance(folder, Path) else "journal/": "all that happened; what --resume goes by",
        "tensorboard/": "an event log a trial, and one of the sweep",
        "trials/": "settings and log of every trial, weights of the best",
        "sweep.yaml": "the complete settings",
    }
    return [f"saved in {shown(folder)}"] + [f"  {name:<16} {what}" for name, what in rows.items()]


def next_commands(folder: StorageLocation, *, exported: bool = True) -> list[str]:
    """Commands worth typing next."""
    here = shlex.quote(shown(folder_of(folder)))
    return [
        "next",
        *([f"  {python()} -m handclip_core evaluate {here}/best --split val"] if exported else []),
        f"  {python()} -m tensorboard.main --logdir {here}/tensorboard",
        f"  {extend_command(folder)}",
        f"  {program('finals')} {shlex.quote(folder.name)} --storage {shlex.quote(shown(folder.parent))}",
    ]


def extend_command(folder: StorageLocation) -> str:
    """What to type to add trials to the sweep at ``folder``."""
    return f"{program('sweep')} {shlex.quote(shown(folder))} --extend 20"


def program(name: str) -> str:
    """What to type for the command ``name``: its file at the top of a clone, ``handclip`` elsewhere."""
    file = PACKAGE / PROGRAMS[name]
    if PACKAGE.parent == Path.cwd():
        return f"{python()} {shown(file)}"
    installed = Path(sys.executable).with_name("handclip")
    return f"{shlex.quote(shown(installed))} {name}" if installed.is_file() else f"{python()} {shlex.quote(str(file))}"


def python() -> str:
    """This Python, as one would type it."""
    return shlex.quote(shown(Path(sys.executable)))


def shown(folder: StorageLocation) -> str:
    """The folder's path, relative if it lies below the current one; a bucket's URI."""
    if isinstance(folder, Path) and folder.is_relative_to(Path.cwd()):
        return str(folder.relative_to(Path.cwd()))
    return str(folder)
