"""The report of a sweep: at its end, after the finals, and whenever somebody asks."""

import hashlib
import json
import platform
import shlex
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count
from pathlib import Path

from handclip_core.errors import InputError
from handclip_core.evaluation.access_log import AccessLog, hash_of_test, shared_log
from handclip_core.runs.test_access import ACCESS_LOG, code_version
from tune_jobs.config.backbones import as_it_is
from tune_jobs.config.settings import SETTINGS
from tune_jobs.lifecycle.folders import BEST
from tune_jobs.reporting import sweep_sections as sections
from tune_jobs.reporting import winner_sections
from tune_jobs.reporting.details import details
from tune_jobs.reporting.hyperparameters import hyperparameters
from tune_jobs.reporting.page import NONE, REPORT, Page, Section, Table, hours, percent, signed, span
from tune_jobs.reporting.panels import no_data
from tune_jobs.reporting.record import SweepRecord
from tune_jobs.reporting.summary import baseline_of, program, shown, used
from tune_jobs.reporting.sweep_sections import USE, how_to_use
from tune_jobs.reporting.winner_sections import Winner, missing
from tune_jobs.state.events import Closed, Ended
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.usage import HOUR_S
from tune_jobs.storage.location import BucketLocation, folder_of
from tune_jobs.storage.retry import with_retry
from tune_jobs.storage.sync import FINALS

LIBRARIES = ("torch", "open_clip_torch", "ray", "optuna", "numpy", "pandas")
ROOT = Path(__file__).resolve().parents[2]
NOTHING = Page(title="", verdict=(), tiles={}, sections=())


def write_report(sweep: SweepRecord) -> list[Path]:
    """Write the report of a sweep into its folder, and into its bucket; raises InputError if that stays away."""
    files = report(sweep).write(sweep.folder)
    if isinstance(sweep.where, BucketLocation):
        for file in files:
            with_retry(partial((sweep.where / file.name).send, file), path=sweep.where)
    return files


def report(sweep: SweepRecord) -> Page:
    """Everything that is known of a sweep, the finals included if they have been held."""
    where = sweep.where
    winner, finals = Winner(sweep.folder / BEST, sweep.settings, where), _finals(sweep)
    again = shlex.quote(where.name), shlex.quote(shown(where.parent))
    finals_command = f"{program('finals')} {again[0]} --storage {again[1]}"
    not_held = Section(title="Finals", missing=f"Not held yet: {finals_command}")
    found = [
        _measured(sweep, winner),
        *finals.sections[:1],
        sections.strategies(sweep),
        sections.leaderboard(sweep),
        sections.progress(sweep),
        hyperparameters(sweep),
        sections.pareto(sweep),
        sections.expected_best(sweep),
        *sections.baselines(winner.baselines, sweep.objective.label),
        *_of_winner(sweep, winner),
        *([one for one in finals.sections[1:] if one.title != USE] or [not_held]),
        sections.trouble(sweep),
        _test_accesses(sweep, winner, finals_command),
        next((one for one in finals.sections if one.title == USE), _use(sweep)),
        _appendix(sweep),
    ]
    verdict = [*finals.verdict, *([] if finals.verdict else _so_far(sweep, winner, finals_command)), _state(sweep)]
    tiles = (finals.tiles or _best_tiles(sweep, winner)) | _cost_tiles(sweep)
    return Page(title=f"Sweep {where.name}", verdict=tuple(verdict), tiles=tiles, sections=tuple(found))


def _of_winner(sweep: SweepRecord, winner: Winner) -> list[Section]:
    if not winner.settings.task.has_galleries:
        return [details(winner)]
    searches = [winner_sections.curves(winner), winner_sections.images(winner)]
    in_sequence = winner.data is None or winner.data.manifest["aspect"].nunique() > 1
    learned = [sections.forgetting(sweep, winner.figures.get("sequence"))] if in_sequence else []
    return [*searches, *learned, winner_sections.groups(winner)]


def _finals(sweep: SweepRecord) -> Page:
    """What the finals have left for the report; an empty page if they were not held, or the sweep has gone on since."""
    where, file = sweep.where / FINALS, f"{REPORT}.json"
    own = folder_of(where) / file
    found = [Page.from_file(own)] if own.is_file() else []
    if isinstance(where, BucketLocation) and (kept := with_retry((where / file).read, path=where)) is not None:
        found.append(Page.parse(json.loads(kept), source=f"{where / file}"))
    # Another machine may have held them since.
    page = max(found, key=lambda one: one.at, default=NOTHING)
    last = max((event.at for event in sweep.events if isinstance(event, Ended)), default=0.0)
    if page is not NOTHING and page.at < last:
        gone_on = "The sweep has gone on since its finals: hold them again."
        return NOTHING.model_copy(update={"sections": (Section(title="Finals", missing=gone_on),)})
    return page


def _so_far(sweep: SweepRecord, winner: Winner, finals_command: str) -> list[str]:
    best = sweep.all_trials.best
    if best is None:
        failed = sum(view.status is Status.FAILED for view in sweep.all_trials.all())
        return [f"No trial has a score yet; {failed} failed."]
    sure, task = _interval(best, sweep, winner), sweep.settings.task
    interval = f" (95 % over {task.clusters}: {sure})" if sure != NONE else ""
    num = sum(view.has_score for view in sweep.all_trials.all())
    beside, unbeaten = _beside_baselines(sweep, winner)
    return [
        *(beside if unbeaten else []),
        f"Best so far: trial {best.number}, {best.arm}, with validation {sweep.objective.label} "
        f"{percent(best.score)} %{interval}{_gain(best, sweep)}; the search took {_cost(sweep)}.",
        f"It is the best of {num} trials on the same {task.clusters}, so it flatters, and says little of which "
        f"strategy is best. The finals do: {finals_command}",
        *([] if unbeaten else beside),
    ]


def _beside_baselines(sweep: SweepRecord, winner: Winner) -> tuple[list[str], bool]:
    """The exported winner beside the best baseline, if it is still the best trial; and whether that is not beaten."""
    best, label = winner.baselines[:1], sweep.objective.label
    if not best or sweep.all_trials.winner is not sweep.all_trials.best:
        return [], False
    return [best[0].sentence(label, of=len(winner.baselines))], not best[0].beaten


def _gain(best: TrialView, sweep: SweepRecord) -> str:
    clip, called = baseline_of(sweep.all_trials, best), as_it_is(best.experiment.backbone)
    return "" if clip is None or clip is best else f", {signed(best.score - clip.score)} to {called}"


def _interval(best: TrialView, sweep: SweepRecord, winner: Winner) -> str:
    """That of the exported winner, if it is still the best trial."""
    is_exported = sweep.all_trials.winner is best
    return span(winner.interval) if is_exported and winner.interval is not None else NONE


def _best_tiles(sweep: SweepRecord, winner: Winner) -> dict[str, str]:
    best = sweep.all_trials.best
    if best is None:
        return {}
    return {
        "best so far": f"{best.arm}, trial {best.number}",
        f"{sweep.objective.label}, optimistic": f"{percent(best.score)} %",
        f"95 % over {sweep.settings.task.clusters}": _interval(best, sweep, winner),
    }


def _cost_tiles(sweep: SweepRecord) -> dict[str, str]:
    trials = sweep.all_trials
    failed = sum(view.status is Status.FAILED for view in trials.all())
    over = f"{trials.num_over()} of {sweep.settings.trials}" + (f", {failed} failed" if failed else "")
    held = sum(view.seconds for view in trials.all()) * sweep.settings.resources.workers / HOUR_S
    return {"trials over": over, "cost of the search": _cost(sweep), "worker hours": hours(held)}


def _cost(sweep: SweepRecord) -> str:
    """What the search has taken so far."""
    return used(sweep.all_trials.usage, sweep.settings.limits).removeprefix("used").strip()


def _state(sweep: SweepRecord) -> str:
    last = next((event for event in reversed(sweep.events) if event.event != "alive"), None)
    trials = sweep.all_trials
    if not isinstance(last, Closed):
        running = sum(view.status is Status.RUNNING for view in trials.all())
        return f"The sweep is under way, or its driver has died: {trials.num_over()} trials over, {running} running."
    return f"The sweep ended before its last trial: {last.reason}." if last.reason else "The sweep has come to its end."


def _measured(sweep: SweepRecord, winner: Winner) -> Section:
    settings = sweep.settings
    facts = {
        "task": settings.task.name,
        "objective": f"validation {sweep.objective.label}, a mean over {settings.task.averaged}",
        "intervals": f"95 %, resampling {settings.task.clusters}",
        "backbone": ", ".join(backbone.name for backbone in settings.backbones),
        "budget of a trial": f"{settings.budget} units (epochs of the training split)",
    }
    if winner.data is None:
        return Section(title="What was measured", tables=(_facts("Settings", facts),), missing=no_data(sweep.where))
    protocol, manifest = winner.data.protocol, winner.data.manifest
    facts |= {
        "data": f"{protocol.source}, cut {protocol.cut}, seed {protocol.seed}",
        "hash of the source": protocol.source_hash[:16],
        "hash of the manifest": protocol.manifest_hash[:16],
    }
    if settings.task.has_galleries:
        facts["gallery splits"] = f"{len(protocol.draws['val'])} of validation, {len(protocol.draws['test'])} of test"
    counted = manifest.groupby("subset")["identity"].agg(["nunique", "size"])
    clusters = settings.task.clusters
    columns = {
        "subset": [str(name) for name in counted.index],
        clusters: [f"{number:,}" for number in counted["nunique"]],
        "images": [f"{number:,}" for number in counted["size"]],
    }
    lines = (f"Validation {clusters} are no training {clusters}. A search never sees test {clusters}.",)
    tables = (_facts("Settings", facts), Table.of("What the splits hold", columns))
    return Section(title="What was measured", lines=lines, tables=tables)


def _facts(title: str, facts: dict[str, str]) -> Table:
    return Table.of(title, {"what": list(facts), "value": list(facts.values())}, num_words=2)


def _test_accesses(sweep: SweepRecord, winner: Winner, finals_command: str) -> Section:
    title = f"Accesses to the test {sweep.settings.task.clusters}"
    if winner.data is None:
        return Section(title=title, missing=no_data(sweep.where))
    test = hash_of_test(winner.data)
    log = AccessLog(sweep.folder.parent / ACCESS_LOG, shared_log(test))
    try:
        found = log.accesses(test)
    except InputError as error:
        return Section(title=title, missing=str(error))
    if not found:
        return Section(title=title, missing=f"None so far. The finals open them: {finals_command} --final-test")
    columns = {
        "access": [str(place) for place in range(1, len(found) + 1)],
        "time": [entry.time for entry in found],
        "sweep": [str(entry.values.get("sweep", NONE)) for entry in found],
        "chosen": [str(entry.values.get("chosen", NONE)) for entry in found],
    }
    lines = (
        ("Whoever chooses by what an earlier access showed makes a later one optimistic.",) if len(found) > 1 else ()
    )
    return Section(title=title, lines=lines, tables=(Table.of("Accesses", columns, num_words=4),))


def _use(sweep: SweepRecord) -> Section:
    best = sweep.folder / BEST
    if not best.is_dir():
        return Section(title=USE, missing=missing(Winner(best, sweep.settings, sweep.where)))
    return how_to_use(shown(best), has_galleries=sweep.settings.task.has_galleries)


def _appendix(sweep: SweepRecord) -> Section:
    lock, settings = ROOT / "uv.lock", sweep.folder / SETTINGS
    facts = {
        "code": code_version(),
        "lock file": hashlib.sha256(lock.read_bytes()).hexdigest()[:16] if lock.is_file() else "not beside the code",
        "Python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}, {cpu_count()} cores; that of this report",
        "GPUs of a trial": f"{sweep.all_trials.usage.gpus_each:g}",
        "seed": str(sweep.settings.seed),
        "this report": shlex.join([shown(Path(sys.executable)), *sys.argv]),
    }
    given = settings.read_text(encoding="utf-8").rstrip() if settings.is_file() else ""
    settings_file = shlex.quote(f"{shown(sweep.where)}/{SETTINGS}")
    again = f"# to run the same sweep again\n# {program('sweep')} {settings_file} --name again\n"
    return Section(title="To reproduce", tables=(_facts("Versions", facts),), code=again + given)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
