"""The best trial's results in one folder that needs neither Ray nor the sweep, and mixtures of the best weights."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from handclip_core.devices import select_device
from handclip_core.errors import InputError
from handclip_core.evaluation.units import Evaluation
from handclip_core.runs.baselines import write_gaps
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.final_scores import SCORES
from handclip_core.runs.run_folder import BEST as WEIGHTS
from handclip_core.runs.run_folder import RunFolder, load_tensors
from handclip_core.runs.soups import Ingredient, SoupRow, soup_rows
from handclip_core.scratch import scratch_folder
from tune_jobs.execution.cluster import TrialResources, WorkerError, run_where_trials_run
from tune_jobs.lifecycle.folders import BEST
from tune_jobs.state.events import Mixture
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials
from tune_jobs.storage.checkpoints import drop_state
from tune_jobs.storage.location import StorageLocation, local_copy, parse_location


def export_best(where: StorageLocation, experiment: Experiment, checkpoint: StorageLocation, device: str) -> None:
    """Write settings, weights, log, validation results and embeddings of a trial to ``where``, replacing it whole.

    Its scores are held against those of the task's baselines.

    Raises InputError if the trial's saved state is missing or damaged; then what is at ``where`` stays.
    """
    try:
        with local_copy(checkpoint) as state, replaced(where) as folder:
            run = RunFolder.reopen(folder, experiment, state)
            results = run.finish(checkpoint=state, device=select_device(device))
            if results is not None:
                experiment.task.save(folder / SCORES, results)
                _hold_against_baselines(folder, experiment, results, device)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or checkpoint}: no such file") from None


def _hold_against_baselines(folder: Path, experiment: Experiment, results: Evaluation, device: str) -> None:
    """Keep in ``folder`` how far the winner is above the baselines; a winner without that is still one."""
    try:
        write_gaps(folder, experiment, results, device)
    except (InputError, OSError) as error:
        print(f"the winner is not held against the baselines: {error}", flush=True)


def export_told(where: str, experiment: str, checkpoint: str, threads: str, device: str) -> None:
    """As ``export_best`` with all told as texts, for a process of its own, with so many ``threads``."""
    torch.set_num_threads(int(threads))
    wanted = Experiment.model_validate(json.loads(experiment))
    export_best(parse_location(where), wanted, parse_location(checkpoint), device)


def export_best_left(all_trials: Trials, where: StorageLocation, call: Callable[..., Any], *, threads: int) -> None:
    """Export the best trial of the sweep at ``where`` whose saved state can be read, and say so if another was better.

    ``call`` calls a function of texts where trials ran, with their device at the end; it may use ``threads``. Raises
    InputError if no trial's state can be read, or the process is lost that reads it.
    """
    for view in _with_weights(all_trials):
        places = str(where / BEST), view.experiment.model_dump_json(), str(where / str(view.checkpoint))
        try:
            call(export_told, *places, str(threads))
        except InputError as error:
            lost = f"trial {view.number} ({view.score:.4f}) cannot be exported: {error}"
            print(f"{lost}; the best that is left is taken", flush=True)
            continue
        except WorkerError as error:  # which says nothing of the trial's weights
            raise InputError(f"{where}: {BEST}/ is not written: {error}; take the sweep up with --resume") from None
        return
    raise InputError(f"{where}: no trial is left whose weights can be read, so {BEST}/ is not written")


@contextmanager
def replaced(where: StorageLocation) -> Iterator[Path]:
    """A folder to fill, which takes its place at ``where`` after the block; what is there stays if the block raises."""
    if isinstance(where, Path):
        partial = where.with_name(f"{where.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            yield partial
            shutil.rmtree(where, ignore_errors=True)
            partial.rename(where)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return
    with scratch_folder() as folder:
        yield folder
        # Files of the old one that the new one lacks would stay.
        drop_state(where)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            (where / file.relative_to(folder).as_posix()).send(file)


def mixtures(all_trials: Trials, where: StorageLocation, trial_resources: TrialResources) -> tuple[Mixture, ...]:
    """Soups and WiSE-FT of the trials whose weights have been kept in the sweep at ``where``, best first."""
    given = [(str(view.number), view.experiment, where / str(view.checkpoint)) for view in _with_weights(all_trials)]
    rows = run_where_trials_run(trial_resources, _soup_rows, given)
    arms = [all_trials.trials[int(row.members[0])].arm for row in rows]
    return tuple(Mixture(name=arm, status=r.status, metrics=r.metrics) for arm, r in zip(arms, rows, strict=True))


def _with_weights(all_trials: Trials) -> list[TrialView]:
    idle = (view for view in all_trials.ranked() if view.status is not Status.RUNNING)
    return [view for view in idle if view.has_score and view.best_is_saved]


def _soup_rows(kept: list[tuple[str, Experiment, StorageLocation]], device: str) -> list[SoupRow]:
    with ExitStack() as stack:
        given = []
        for name, experiment, state in kept:
            with suppress(FileNotFoundError, InputError):
                weights = stack.enter_context(local_copy(state)) / WEIGHTS
                load_tensors(weights)  # what is missing or damaged is left out
                given.append(Ingredient(name, experiment, weights))
        return soup_rows(given, device=torch.device(device))
