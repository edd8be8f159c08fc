"""A finished run or an ensemble of runs, loaded to be measured on the data of its experiment."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from handclip_core.data.inputs import Inputs, PerTowerInputs
from handclip_core.errors import InputError
from handclip_core.models.ensemble import EnsembleModel
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.ensemble_file import ENSEMBLE, EnsembleFile, is_ensemble, member_folders, read_ensemble
from handclip_core.runs.experiment import Experiment, context_of
from handclip_core.runs.model_file import file_hash, weights_hash
from handclip_core.runs.run_folder import BEST, CONFIG, load_run, load_tensors, read_experiment


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A ``model`` with the ``inputs`` that it reads, before the data in ``context``."""

    model: HandModel
    inputs: Inputs
    context: ExperimentContext


def load_finished(folder: Path, *, device: torch.device) -> LoadedRun:
    """The model in ``folder``, in evaluation mode; raises InputError for missing or damaged weights, and for
    members of an ensemble that are not those it was made of.
    """
    if not is_ensemble(folder):
        return _loaded(folder, device)
    about, members = read_ensemble(folder), []
    for path, said in zip(member_folders(folder), about.members, strict=True):
        member = _loaded(path, device)
        known = weights_hash(member.model, load_tensors(path / BEST))
        if (known, file_hash(path / BEST)) != (said.hash, said.file):
            raise InputError(f"{path}: not the weights that the ensemble was made of; make it again")
        members.append(member)
    return as_one(about, members)


def as_one(about: EnsembleFile, members: Sequence[LoadedRun]) -> LoadedRun:
    """The ``members`` of an ensemble as one model, with the images in every form that one of them reads."""
    model = EnsembleModel([one.model for one in members], about.by, about.scores).eval()
    by_form = {form: one.context.pixel_inputs for one in reversed(members) for form in one.model.forms}
    return LoadedRun(model, PerTowerInputs([by_form[form] for form in model.forms]), members[0].context)


def experiments_of(folder: Path) -> tuple[Experiment, ...]:
    """The experiment of a run, or those of an ensemble's members; raises InputError if there is none."""
    return tuple(read_experiment(path) for path in runs_in(folder))


def runs_in(folder: Path) -> list[Path]:
    """The folder of a run, or those of an ensemble's members."""
    return member_folders(folder) if is_ensemble(folder) else [folder]


def settings_text(folder: Path) -> str:
    """The settings that the folder of a run or of an ensemble holds, as they are written."""
    return (folder / (ENSEMBLE if is_ensemble(folder) else CONFIG)).read_text(encoding="utf-8")


def _loaded(folder: Path, device: torch.device) -> LoadedRun:
    context = context_of(read_experiment(folder), device)
    return LoadedRun(load_run(folder, device=device), context.pixel_inputs, context)
