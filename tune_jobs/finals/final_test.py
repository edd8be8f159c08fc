"""The sealed look: the chosen configuration, fitted on all training identities, on the test identities, and entered."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from handclip_core.devices import select_device
from handclip_core.documents import read_document
from handclip_core.engine.state import save_tensors
from handclip_core.evaluation.access_log import OPENED, SCORED, AccessLog, Entry, shared_log
from handclip_core.evaluation.bootstrap import Comparison, Estimate, compare_paired, estimate
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.ensemble import write_final_ensemble
from handclip_core.runs.experiment import Experiment, assemble, context_of, score
from handclip_core.runs.loaded import LoadedRun
from handclip_core.runs.model_file import model_files
from handclip_core.runs.run_folder import BEST, CONFIG, FINAL, LOG, read_log, write_json, write_log, write_text
from handclip_core.runs.soups import Ingredient, mixture
from handclip_core.runs.test_access import code_version
from handclip_core.runs.validation import SEEN_ALL, TEST_FILE, VALIDATION_FILE, measured, seen_all_but_before
from handclip_core.scratch import scratch_folder
from handclip_core.strategies import ZeroShot
from handclip_core.tasks import AnyTask
from tune_jobs.config.backbones import as_it_is
from tune_jobs.execution.cluster import run_where_trials_run
from tune_jobs.finals.build import Finals, run_name
from tune_jobs.finals.in_bucket import sync_ledger
from tune_jobs.finals.mixtures import Entrant, Recipe
from tune_jobs.finals.ranking import Standings
from tune_jobs.lifecycle.export_best import replaced
from tune_jobs.reporting.summary import log
from tune_jobs.state.trial import Status
from tune_jobs.storage.location import StorageLocation, local_copy

FILE, MODEL = "final_test.json", "model"
WINNER_SCORES, CLIP_SCORES = "test_winner.npz", "test_clip.npz"


Members = tuple[tuple[Experiment, StorageLocation], ...]


@dataclass(frozen=True)
class FinalTest:
    """What a look at the test identities gave; ``looks`` are all at these identities so far, ``number`` is this one's
    place.

    ``figures`` has the chosen model's, ``baseline`` CLIP's and ``gaps`` the paired difference, by the name of a metric.
    ``entry`` is the hash of its last line in the access log, ``as_it_is`` what the model's backbone without training is
    called. ``model`` is the name of the model's folder.
    """

    chosen: str
    entry: str
    number: int
    accesses: tuple[Entry, ...]
    figures: dict[str, Estimate]
    baseline: dict[str, Estimate]
    gaps: dict[str, Comparison]
    as_it_is: str
    model: str


@dataclass(frozen=True)
class FinalModel:
    """What a final model is put together from: its ``members``' experiments and last states, mixed or fused.

    ``untrained`` is the backbone that it is held against as it is. ``before`` are the same members trained without the
    validation identities, on whom they set its thresholds; without them it has none.
    """

    members: Members
    before: Members
    untrained: BackboneSettings
    alpha: float | None = None
    fusion: ScoreFusion | None = None


def final_test(finals: Finals, standings: Standings) -> FinalTest | None:
    """Fit the winner on all training identities and look at the test identities; None if a fit fails, which is named.

    The access log is checked and written twice: before the test identities are scored and after. Raises InputError if
    its chain is broken.
    """
    chosen = standings.winner.entrant
    fits = _fit(finals, chosen.recipe)
    if fits is None:
        return None
    members, before = fits
    seen, about = check_access_log(finals), _about(finals, chosen)
    # Before the look, so that one which is killed amid it counts.
    entry = _entered(finals, OPENED, about)
    log(f"opening the test identities: access {len(seen) + 1} to these {finals.data.num_test_identities}")
    name = _folder_name(finals, chosen.recipe)
    where = finals.where / MODEL / name
    untrained = standings.untrained.experiment.backbone
    model = FinalModel(members, before, untrained, chosen.recipe.alpha, chosen.recipe.fusion)
    scores = run_where_trials_run(finals.trial_resources, score_on_test, where, model)
    folder = finals.folder / MODEL / name
    for file, of_model in zip((WINNER_SCORES, CLIP_SCORES), scores, strict=True):
        chosen.recipe.task.save(folder / file, of_model)
    found = _measured(folder, chosen.recipe.task)
    figures = {name: _values(found[position]) for position, name in enumerate(("winner", "clip", "gap"))}
    done = _entered(finals, SCORED, {**about, "opened": entry.hash, "figures": figures})
    known = {"chosen": chosen.name, "opened": entry.hash, "entry": done.hash, "data": finals.data.test_hash}
    write_json(finals.folder / FILE, {**known, "model": folder.name, "as_it_is": standings.as_it_is})
    return last_access(finals)


def last_access(finals: Finals) -> FinalTest | None:
    """The sweep's latest look, if it has had one; raises InputError where the access log lacks it or is broken."""
    path = finals.folder / FILE
    if not path.exists():
        return None
    known = read_document(path)
    check_access_log(finals)
    accesses = access_log_of(finals).accesses(known["data"])
    number = next(place for place, access in enumerate(accesses, start=1) if access.hash == known["opened"])
    found = _measured(finals.folder / MODEL / known["model"], finals.past.settings.task)
    called = known.get("as_it_is", as_it_is(BackboneSettings()))  # older sweeps had CLIPs alone
    return FinalTest(
        known["chosen"], known["entry"], number, tuple(accesses), *found, as_it_is=called, model=known["model"]
    )


def access_log_of(finals: Finals) -> AccessLog:
    """The access log of all sweeps in one storage, which shares the accesses to the sweep's test identities."""
    return AccessLog(sync_ledger(finals.past.where), shared_log(finals.data.test_hash))


def _entered(finals: Finals, event: str, about: dict[str, Any]) -> Entry:
    entry = access_log_of(finals).append(event, about)
    sync_ledger(finals.past.where)
    return entry


def check_access_log(finals: Finals) -> list[Entry]:
    """The looks so far at the sweep's test identities; raises InputError where the access log is broken or lost one."""
    access_log, path = access_log_of(finals), finals.folder / FILE
    if path.exists():
        access_log.require(read_document(path)["entry"], source=path)
    return access_log.accesses(finals.data.test_hash)


def score_on_test(where: StorageLocation, model: FinalModel, device: str) -> tuple[Evaluation, Evaluation]:
    """Put ``model`` together at ``where``; scores of it and of a backbone as it is on the test identities."""
    on = select_device(device)
    with replaced(where) as out:
        winner = _put_together(out, model, on)
        if model.before and model.members[0][0].task.has_galleries:
            _set_thresholds(out, model, on)
        scores = score(winner.context, winner.model, winner.inputs, "test")
        write_text(out / TEST_FILE, measured(scores, winner.context).model_dump_json(indent=2))
    experiment = model.members[0][0]
    changes = {"strategy": ZeroShot(), "part": "train", "backbone": model.untrained}
    clip = experiment.model_copy(update=changes)
    context = context_of(clip, on)
    of_clip = score(context, assemble(clip, context).model, context.pixel_inputs, "test")
    return scores, of_clip


def _put_together(out: Path, model: FinalModel, device: torch.device) -> LoadedRun:
    return _single(out, model, device) if model.fusion is None else _fused(out, model, model.fusion, device)


def _set_thresholds(out: Path, model: FinalModel, device: torch.device) -> None:
    """Save the thresholds of the members before, put together as the model is, with the model in ``out``."""
    with scratch_folder() as folder:
        run = _put_together(folder / MODEL, replace(model, members=model.before), device)
        known = seen_all_but_before(run.model, run.context, run.inputs)
    write_text(out / VALIDATION_FILE, known.model_dump_json(indent=2))


def _single(out: Path, model: FinalModel, device: torch.device) -> LoadedRun:
    """The members mixed into one model, in a run's folder ``out``."""
    with ExitStack() as opened:
        runs = [
            Ingredient("", experiment, opened.enter_context(local_copy(state)) / FINAL)
            for experiment, state in model.members
        ]
        mixed = mixture(runs, alpha=model.alpha, device=device)
        logged = _one_after_another([read_log(run.weights.with_name(LOG)) for run in runs])
    experiment = model.members[0][0]
    context = context_of(experiment, device)
    out.mkdir(parents=True, exist_ok=True)
    texts = {CONFIG: experiment.model_dump_json(indent=2), VALIDATION_FILE: SEEN_ALL.model_dump_json(indent=2)}
    for name, text in {**texts, **model_files(experiment, context)}.items():
        write_text(out / name, text)
    save_tensors(mixed.state_dict(), out / BEST)
    write_log(logged, out / LOG)
    return LoadedRun(mixed, context.pixel_inputs, context)


def _one_after_another(logs: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The logs of all members as one, which says what they took together."""
    rows: list[dict[str, Any]] = []
    for rows_of_one in logs:
        before = rows[-1]["images"] if rows else 0
        rows += [row | {"images": row["images"] + before} for row in rows_of_one]
    return rows


def _fused(out: Path, model: FinalModel, fusion: ScoreFusion, device: torch.device) -> LoadedRun:
    """The members as an ensemble in the folder ``out``."""
    with scratch_folder() as folder:
        folders = {}
        for number, member in enumerate(model.members, start=1):
            called = f"{member[0].strategy.name}-{member[0].backbone.name.rpartition('/')[2]}"
            folders[f"{number}-{called}"] = folder / str(number)
            _single(folder / str(number), replace(model, members=(member,)), device)
        origins = [str(state) for _, state in model.members]
        return write_final_ensemble(folders, out, fusion, origins=origins, device=device)


def _fit(finals: Finals, recipe: Recipe) -> tuple[Members, Members] | None:
    """The recipe's members fitted on all training identities on the first seed, and their states; then the same of
    their runs without the validation identities. None if a fit fails.
    """
    seed = finals.seeds[0]
    before = {run_name(member, seed): member.on(seed) for member in recipe.members}
    wanted = {
        f"{member.key}, on all training identities": member.on(seed).model_copy(update={"part": "train_all"})
        for member in recipe.members
    }
    all_trials = finals.run(wanted, what="final fits")
    done = {view.origin: view for view in all_trials.all() if view.status is Status.COMPLETE}
    if any(name not in done for name in wanted):
        return None

    def with_states(experiments: dict[str, Experiment]) -> Members:
        return tuple((experiment, finals.state_of(done[name])) for name, experiment in experiments.items())

    return with_states(wanted), with_states(before)


def _measured(folder: Path, task: AnyTask) -> tuple[dict[str, Estimate], dict[str, Estimate], dict[str, Comparison]]:
    """Figures of the chosen model, of CLIP as it is, and their paired differences, by the name of a metric."""
    winner, clip = (task.load(folder / name) for name in (WINNER_SCORES, CLIP_SCORES))
    metrics = [metric.name for metric in task.metrics.in_finals]
    return (
        {name: estimate(winner, name) for name in metrics},
        {name: estimate(clip, name) for name in metrics},
        {name: compare_paired(winner, clip, name) for name in metrics},
    )


def _values(found: dict[str, Any]) -> dict[str, Any]:
    return {name: vars(value) for name, value in found.items()}


def _about(finals: Finals, chosen: Entrant) -> dict[str, Any]:
    """What the access log says of a look beside its figures."""
    return {
        "sweep": finals.past.name,
        "chosen": chosen.name,
        "config": _config_hash(finals, chosen.recipe),
        "data": finals.data.test_hash,
        "manifest": finals.data.manifest_hash,
        "code": code_version(),
    }


def _folder_name(finals: Finals, recipe: Recipe) -> str:
    """Name of the folder of a final model: another configuration, seed or data have another."""
    return hashlib.sha256(f"{_config_hash(finals, recipe)} {finals.data.manifest_hash}".encode()).hexdigest()[:12]


def _config_hash(finals: Finals, recipe: Recipe) -> str:
    members = [member.on(finals.seeds[0]).model_dump(mode="json") for member in recipe.members]
    known = {"members": members, "alpha": recipe.alpha, "part": "train_all"}
    one = recipe.fusion
    # Nothing is added for others, so that their hashes stay.
    fused = {} if one is None else {"fusion": [one.weights, one.means, one.deviations]}
    text = json.dumps(known | fused, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
