"""Sections of the report that follow from a sweep's journal: strategies, leaderboard, curves, failures."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from handclip_core.runs.baselines import BaselineGap
from handclip_core.runs.run_folder import CONFIG, LOG
from handclip_core.strategies.aspect_order import AspectOrder
from tune_jobs.config.search import PARAMS_TRAINED, SECONDS
from tune_jobs.config.settings import SETTINGS, StoppingKind, SweepSettings
from tune_jobs.reporting import tensorboard
from tune_jobs.reporting.charts import COLOURS, axes, heat_map, line, many_lines, points, short, vertical
from tune_jobs.reporting.leaderboard import describe_status
from tune_jobs.reporting.page import NONE, Figure, Link, Section, Table, percent, signed
from tune_jobs.reporting.record import SweepRecord, scored
from tune_jobs.reporting.summary import (
    extend_command,
    failures,
    hardly_moved_lines,
    program,
    python,
    regret_lines,
    shown,
)
from tune_jobs.state.events import Begun, Closed, Moved, Retried, Started, Trained, Validated
from tune_jobs.state.objectives import measured, pareto_front, texts
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import TRIALS
from tune_jobs.state.usage import HOUR_S, Usage

USE = "How to load the winner"
"""The title of the section that the finals' final model replaces."""
FEW = 3
"""Trials of a strategy from which on an expectation over them means anything."""


def strategies(sweep: SweepRecord) -> Section:
    """Each strategy's trials and best score."""
    groups = sweep.by_arm
    count = {name: Counter(view.status for view in views) for name, views in groups.items()}
    scores = {name: [view.score for view in scored(views)] for name, views in groups.items()}
    defaults = {
        name: [view.score for view in scored(views) if view.origin == "default"] for name, views in groups.items()
    }
    label = sweep.objective.label
    columns: dict[str, Sequence[str]] = {
        **_named(sweep, [views[0] for views in groups.values()]),
        "trials": [str(len(views)) for views in groups.values()],
        **{
            str(one): [str(count[name][one]) for name in groups]
            for one in (Status.COMPLETE, Status.STOPPED, Status.FAILED)
        },
        f"best {label}": [percent(max(scores[name], default=np.nan)) for name in groups],
        f"default's {label}": [percent(defaults[name][0]) if defaults[name] else NONE for name in groups],
        f"median {label}": [percent(median(scores[name])) if scores[name] else NONE for name in groups],
        "worker hours": [f"{sum(view.seconds for view in views) / HOUR_S:.2f}" for views in groups.values()],
        "weights trained": [_weights(views) for views in groups.values()],
    }
    lines = ("Scores of a sweep are the best of many trials on the same validation data, so they flatter; strategies "
             "with more trials more so. The finals compare them fairly.",)  # fmt: skip
    missing = "" if groups else "No trial has been begun yet."
    tables = (Table.of("Strategies in the sweep", columns),) if groups else ()
    return Section(title="Strategies", lines=lines, tables=tables, missing=missing)


def _weights(views: Sequence[TrialView]) -> str:
    return f"{views[0].params_trained:,}" if views and views[0].params_trained is not None else NONE


def leaderboard(sweep: SweepRecord) -> Section:
    """Every trial, best first, with links to its files."""
    views = sweep.all_trials.ranked()
    if not views:
        return Section(title="Leaderboard", missing="No trial has been begun yet.")
    metrics = sweep.settings.task.metrics.in_tables
    columns: dict[str, Sequence[str | Link]] = {
        "trial": [_link(sweep.folder, f"{TRIALS}/{view.name}/{CONFIG}", str(view.number)) for view in views],
        **_named(sweep, views),
        "status": [str(view.status) for view in views],
        "log": [_log(sweep.folder, view.name) for view in views],
        "events": [_link(sweep.folder, f"{tensorboard.FOLDER}/{view.name}", "TensorBoard") for view in views],
        "rank": [str(rank) if view.has_score else NONE for rank, view in enumerate(views, start=1)],
        **{one.label: [percent(view.metrics.get(one.name, np.nan)) for view in views] for one in metrics},
        "± seeds": [percent(view.sd) for view in views],
        "best unit": [f"{view.best_unit} of {sweep.settings.budget}" for view in views],
        "seconds": [f"{view.seconds:.0f}" for view in views],
        "settings": [
            ", ".join(f"{name.removeprefix('strategy/')} {short(value)}" for name, value in view.params.items())
            for view in views
        ],
    }
    logs = shlex.quote(shown(sweep.folder / tensorboard.FOLDER))
    curves = f"All curves: {python()} -m tensorboard.main --logdir {logs}"
    lines = ("A trial leads to its settings; a click on a heading sorts.", curves)
    backbone = ("backbone",) if sweep.all_trials.backbones else ()
    num_words = 5 + len(backbone)
    table = Table.of("Trials", columns, num_words=num_words, filters=("strategy", *backbone, "status"))
    return Section(title="Leaderboard", lines=lines, tables=(table,))


def _named(sweep: SweepRecord, views: Sequence[TrialView]) -> dict[str, list[str]]:
    """The columns that say what was tried: strategies, and backbones where there are several."""
    backbones = {"backbone": [view.backbone for view in views]} if sweep.all_trials.backbones else {}
    return {"strategy": [view.strategy for view in views], **backbones}


def _log(folder: Path, name: str) -> str | Link:
    """The log beside the last state of a trial, which stays when the weights go."""
    found = sorted((folder / TRIALS / name).glob(f"*/{LOG}"))
    return _link(folder, found[-1].relative_to(folder).as_posix(), "log") if found else NONE


def _link(folder: Path, path: str, text: str) -> str | Link:
    if (folder / path).exists():
        return Link(text=text, href=path)
    # The number of a trial says something without its file, too.
    return text if text.isdigit() else NONE


def progress(sweep: SweepRecord) -> Section:
    """Best so far, and the learning curves of every strategy that trains."""
    groups = {name: [view for view in views if view.curve] for name, views in sweep.by_arm.items()}
    groups = {name: views for name, views in groups.items() if views}
    if not groups:
        return Section(title="Progress", missing="No unit has been evaluated yet.")
    trained = {name: views for name, views in groups.items() if any(max(view.curve) > 0 for view in views)}
    figures = [_best_so_far(sweep), *(_curves(sweep, name, views) for name, views in trained.items())]
    return Section(title="Progress", figures=tuple(figures))


def _best_so_far(sweep: SweepRecord) -> Figure:
    best: dict[str, list[tuple[float, float]]] = {}
    trials, units = sweep.all_trials.trials, 0
    for event in sweep.events:
        units += isinstance(event, Validated | Trained)
        # Other seeds of a trial tell how sure its score is, not how good.
        if isinstance(event, Validated) and event.replica == 0:
            view = trials[event.trial]
            score, curve = 100 * view.score_of(event.best), best.setdefault(view.arm, [])
            if score == score and (not curve or score > curve[-1][1]):
                curve.append((units, score))
    traces = [
        line(name, [*curve, (units, curve[-1][1])], sweep.palette.colour(name), mode="lines+markers")
        | {"line": {"shape": "hv", "color": sweep.palette.colour(name)}, "marker": {"symbol": sweep.palette.sign(name)}}
        for name, curve in best.items()
        if curve
    ]
    caption = "Best so far of each strategy against the budget units that all trials together had trained."
    return Figure(caption=caption, data=tuple(traces), layout=axes("units trained", f"{sweep.objective.label}, %"))


def _curves(sweep: SweepRecord, name: str, views: Sequence[TrialView]) -> Figure:
    settings = sweep.settings
    curves = {f"trial {view.number}": [(unit, 100 * score) for unit, score in view.curve.items()] for view in views}
    stopped = [view for view in views if view.status is Status.STOPPED]
    ends = [(float(max(v.curve)), 100 * v.curve[max(v.curve)], f"trial {v.number} stopped") for v in stopped]
    traces = [many_lines(name, curves, sweep.palette)]
    if ends:
        sign = {"symbol": "x-thin", "size": 7, "line": {"width": 2, "color": COLOURS[3]}}
        traces.append(points(name, ends, sweep.palette) | {"name": "stopped early", "marker": sign})
    rungs = list(_rungs(settings))
    shapes = [vertical(rung, "dot") for rung in rungs]
    said = f"; rungs at {', '.join(map(str, rungs))}" if rungs else ""
    layout = axes("unit", f"{sweep.objective.label}, %", shapes=shapes)
    return Figure(caption=f"Learning curves of {name}, {len(views)} trials{said}.", data=tuple(traces), layout=layout)


def _rungs(settings: SweepSettings) -> Iterator[int]:
    stopping = settings.early_stopping
    rung = stopping.grace
    while stopping.kind in (StoppingKind.PER_STRATEGY, StoppingKind.ASHA) and rung < settings.budget:
        yield rung
        rung *= stopping.reduction


def expected_best(sweep: SweepRecord) -> Section:
    """What more trials of a strategy may bring, from those that it had."""
    title = "Expected best"
    expected = {name: [view.score for view in scored(views)] for name, views in sweep.by_arm.items()}
    traces = [
        line(name, _expected_best(scores), sweep.palette.colour(name))
        for name, scores in expected.items()
        if len(scores) >= FEW
    ]
    if not traces:
        said = f"It takes {FEW} trials of a strategy with a score. Go on with: {extend_command(sweep.where)}"
        return Section(title=title, missing=said)
    caption = (
        "Expected best of so many trials of a strategy, drawn from those that it had (Dodge et al. 2019, "
        "arXiv 1909.03004): a line that still rises says that more trials may pay."
    )
    layout = axes("trials", f"{sweep.objective.label}, %")
    return Section(title=title, figures=(Figure(caption=caption, data=tuple(traces), layout=layout),))


def _expected_best(scores: Sequence[float]) -> list[tuple[float, float]]:
    ordered, num = np.sort(scores) * 100, len(scores)
    share = np.arange(num + 1) / num
    return [(n, float(np.diff(share**n) @ ordered)) for n in range(1, num + 1)]


def pareto(sweep: SweepRecord) -> Section:
    """The Pareto front of a sweep's objectives; of one objective that against what trials cost."""
    given, title = sweep.settings.search.objectives, "Pareto front"
    objectives = given if len(given) > 1 else (*given, SECONDS, PARAMS_TRAINED)
    front = pareto_front(sweep.all_trials, objectives)
    if not front:
        return Section(title=title, missing="No trial has used its whole budget yet: it is drawn once one has.")
    columns: dict[str, Sequence[str]] = {
        "trial": [str(view.number) for view in front],
        **_named(sweep, front),
        **{name: [texts(objectives, view)[name] for view in front] for name in objectives},
    }
    num_words = len(columns) - len(objectives)
    table = Table.of(f"Trials that no other one beats in {' and '.join(objectives)}", columns, num_words=num_words)
    figures = tuple(_front(sweep, objectives[0], other) for other in objectives[1:])
    return Section(title=title, tables=(table,), figures=figures)


def _front(sweep: SweepRecord, objective: str, other: str) -> Figure:
    """Complete trials by two objectives, with the front of these two."""
    done = {name: [v for v in views if v.status is Status.COMPLETE] for name, views in sweep.by_arm.items()}
    traces = [
        points(name, [(measured(v)[other], measured(v)[objective], f"trial {v.number}") for v in views], sweep.palette)
        for name, views in done.items()
        if views
    ]
    front = pareto_front(sweep.all_trials, (objective, other))
    edge = sorted((measured(view)[other], measured(view)[objective]) for view in front)
    traces.append(line("front", edge, "#888888", mode="lines"))
    numbers = ", ".join(str(number) for number in sorted(view.number for view in front))
    caption = f"{objective} against {other}; on the front of the two: trial {numbers}."
    return Figure(caption=caption, data=tuple(traces), layout=axes(other, objective))


def trouble(sweep: SweepRecord) -> Section:
    """Failures with reasons, retries, early stopping, and what ran when."""
    failed = [view for view in sweep.all_trials.all() if view.status is Status.FAILED]
    again = Counter((str(event.event), event.reason) for event in sweep.events if isinstance(event, Retried | Moved))
    tables = []
    if failed:
        columns: dict[str, Sequence[str | Link]] = {
            "trial": [_link(sweep.folder, f"{TRIALS}/{view.name}/{CONFIG}", str(view.number)) for view in failed],
            **_named(sweep, failed),
            "reason": [describe_status(view) for view in failed],
            "attempts": [str(view.attempts) for view in failed],
        }
        tables.append(Table.of("Failed trials", columns, num_words=3))
    if again:
        rows = {
            "what": [what for what, _ in again],
            "reason": [why for _, why in again],
            "times": [str(n) for n in again.values()],
        }
        tables.append(Table.of("Attempts that were begun again", rows, num_words=2))
    lost = [said for said in failures(sweep.all_trials) if said.startswith("every trial")]
    lines = [
        *([] if failed else ["No trial failed."]),
        *lost,
        *hardly_moved_lines(sweep.all_trials, sweep.settings.early_stopping.second_rung),
        *regret_lines(sweep.all_trials, sweep.settings),
    ]
    figures = (_timeline(sweep),) if any(isinstance(event, Started) for event in sweep.events) else ()
    return Section(title="Failures and resources", lines=tuple(lines), tables=tuple(tables), figures=figures)


def _timeline(sweep: SweepRecord) -> Figure:
    began, usage, before = sweep.events[0].at, Usage(), 0
    curve: list[tuple[float, float]] = []
    for event in sweep.events:
        usage.apply(event)
        running = 0 if isinstance(event, Closed) else len(usage.running)
        if running != before:
            curve.append(((event.at - began) / HOUR_S, running))
        before = running
    trace = line("running", curve, COLOURS[0]) | {"line": {"shape": "hv", "color": COLOURS[0]}, "fill": "tozeroy"}
    hours = [(event.at - began) / HOUR_S for event in sweep.events if isinstance(event, Begun)]
    caption = f"Trials that ran at a time, by the clock; {len(hours)} were begun."
    return Figure(caption=caption, data=(trace,), layout=axes("hours", "trials running", height=260))


def baselines(gaps: Sequence[BaselineGap], label: str) -> list[Section]:
    """The exported winner beside baselines of pixels and gradients, by the objective called ``label``, if there are."""
    if not gaps:
        return []
    columns = {
        "baseline": [gap.name for gap in gaps],
        f"{label}, %": [percent(gap.value) for gap in gaps],
        "winner above it by": [signed(gap.difference) for gap in gaps],
        "95 %": [f"{signed(gap.low)} to {signed(gap.high)}" for gap in gaps],
    }
    said = "They use no CLIP, and were scored on the same queries. `docs/protocol.md` says what each is."
    return [Section(title="Baselines", lines=(said,), tables=(Table.of("On validation, best first", columns),))]


def forgetting(sweep: SweepRecord, sequence: Mapping[str, Any] | None) -> Section:
    """The forgetting matrix of a winner that learned aspects one after another, from its ``metrics.json``."""
    title = "Forgetting"
    if not sequence:
        own = next((v for v in sweep.all_trials.ranked() if isinstance(v.experiment.strategy, AspectOrder)), None)
        said = "The winner did not learn aspects one after another"
        if own is None:
            again = f"{program('sweep')} {shlex.quote(f'{shown(sweep.where)}/{SETTINGS}')} --name sequences"
            strategies = "--set 'strategies=[sequential,sequential_ewc]'"
            return Section(title=title, missing=f"{said}, and no strategy of the sweep does: {again} {strategies}")
        config = shlex.quote(f"{shown(sweep.folder)}/{TRIALS}/{own.name}/{CONFIG}")
        train = f"{python()} -m handclip_core train {config} --out runs/sequence"
        return Section(title=title, missing=f"{said}. The matrix of trial {own.number}, {own.arm}: {train}")
    aspects, matrix = sequence["aspects"], sequence["map_after_phase"]
    rows = ["zero-shot", *(f"after {aspect}" for aspect in aspects)][: len(matrix)]
    values = [[100 * value for value in row] for row in matrix]
    caption = "mAP on each aspect (columns) after each phase (rows): what a column loses downwards has been forgotten."
    told = ("average", "backward_transfer", "forward_transfer", "forgetting", "intransigence")
    lines = [f"{name.replace('_', ' ')}: {100 * sequence[name]:.2f}" for name in told if sequence.get(name) is not None]
    return Section(title=title, lines=tuple(lines), figures=(heat_map(caption, rows, aspects, values),))


def how_to_use(folder: str, *, has_galleries: bool) -> Section:
    """What to type for a finished run in use, in a shell and in Python."""
    run = f"{python()} -m handclip_core"
    path = shlex.quote(folder)
    galleries = [
        f"{run} enrol {path} PEOPLE --to gallery",
        f"{run} identify {path} IMAGES --gallery gallery --out answers",
    ]
    searched = galleries if has_galleries else [f"{run} search {path} --like IMAGE --images IMAGES"]
    commands = [
        f"{run} embed {path} IMAGES --out vectors.npy",
        *searched,
        f"{run} export {path} --to safetensors --out exported",
    ]
    lines = [
        "from handclip_core.serving.model import open_run",
        f"model = open_run({folder!r})",
        "model.embed(['IMAGE'])",
    ]
    return Section(title=USE, code="\n".join([*commands, "", *lines]))
