"""Making an ensemble: members that may stand together, weights fitted on validation, and a folder of its own."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import Comparison
from handclip_core.evaluation.embed import each_image_once
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.joined import FusedBy
from handclip_core.models.names import CONFIG_FILE
from handclip_core.paths import shown_path
from handclip_core.runs.ensemble_file import ENSEMBLE, MEMBERS, EnsembleFile, Gain, Member, is_ensemble
from handclip_core.runs.experiment import score
from handclip_core.runs.loaded import LoadedRun, as_one, load_finished
from handclip_core.runs.model_file import MODEL_FILE, ModelFile, file_hash, weights_hash
from handclip_core.runs.run_folder import BEST, CONFIG, LOG, load_tensors, read_experiment, write_text
from handclip_core.runs.validation import SEEN_ALL, VALIDATION_FILE, Figure, ValidationFile, validation_file
from handclip_core.tasks.answers import Answers
from handclip_core.tasks.base import Task

COPIED = (CONFIG, MODEL_FILE, CONFIG_FILE, VALIDATION_FILE, LOG, BEST)
"""Files of a member that the ensemble keeps; the log may be missing."""


@dataclass(frozen=True)
class Made:
    """An ensemble that has been written into ``folder``; ``scores`` are the objective of each member on validation."""

    folder: Path
    about: EnsembleFile
    label: str
    scores: tuple[float, ...]
    together: float | None

    def text(self) -> str:
        """A line a member, what they are worth together, and on whom that was measured."""
        names = [member.name for member in self.about.members]
        width = max(map(len, names))
        known = [f"  {self.label} {100 * score:.2f}" for score in self.scores] or [""] * len(names)
        lines = [
            f"{name:<{width}}  weight {weight:.2f}{score}"
            for name, weight, score in zip(names, self.about.weights, known, strict=True)
        ]
        return "\n".join([*lines, *self._worth(), f"saved in {shown_path(self.folder)}"])

    def _worth(self) -> list[str]:
        gain = self.about.gain
        if gain is None or self.together is None:
            return ["not measured: a member was trained on the validation people too"]
        fitted = ", whom its weights were fitted to as well" if gain.fitted else ""
        lines = [
            f"together {self.label} {100 * self.together:.2f}, {_points(gain.difference)} to {gain.best}, the best of "
            f"them; P(better) {gain.probability:.3f}; by {gain.num_people} validation people{fitted}"
        ]
        if gain.crossed is not None:
            lines.append(f"weights fitted to one half of the people, measured on the other: {_points(gain.crossed)}")
        return lines


def make_ensemble(
    folders: Sequence[Path],
    out: Path,
    *,
    by: FusedBy | None = None,
    weights: Sequence[float] | None = None,
    device: torch.device,
) -> Made:
    """Fuse the finished runs in ``folders`` and write a folder ``out`` that can be used as a run's can.

    Fused is the score, unless ``by`` says something else; weights are fitted on validation unless they are given, which
    is for features, and for classes. Raises InputError for runs that may not stand together, by name.
    """
    out = out.absolute()
    if out.exists() and any(out.iterdir()):
        raise InputError(f"--out {shown_path(out)}: is not empty; name a new folder")
    runs = _opened(folders, device, fitting=weights is None)
    chosen = _way(runs, folders, by, weights)
    context = runs[0].context
    objective = context.task.metrics.objective
    answers = context.evaluator("val").answers(runs, by=chosen, objective=objective.name)
    fitted = weights is None and chosen is not FusedBy.VOTE
    fusion = answers.fit(answers.people) if weights is None else ScoreFusion.of_cosines(_shares(weights, len(runs)))
    seen = any(read_experiment(folder).part == "train_all" for folder in folders)
    together = None if seen else answers.score(fusion)
    names = _names(["-".join(folder.resolve().parts[-2:]) for folder in folders])
    gain = None if together is None else _gain(answers, answers.against_best(together), names, fitted=fitted)
    members = tuple(map(_member, names, [str(folder.resolve()) for folder in folders], folders, runs))
    about = _about(chosen, fusion, members, gain)
    _write(about, as_one(about, runs), folders, out, seen=seen)
    singles = () if seen else tuple(one.mean(objective.name) for one in answers.singles)
    return Made(out, about, objective.label, singles, None if together is None else together.mean(objective.name))


def write_final_ensemble(
    folders: Mapping[str, Path], out: Path, fusion: ScoreFusion, *, origins: Sequence[str], device: torch.device
) -> LoadedRun:
    """Write the runs in ``folders``, by what they are called, as one model into ``out``, and give it.

    They were trained on the validation people, so nothing is fitted or measured: ``fusion``, of scores, is of runs with
    the same settings that were not. ``origins`` says where the runs are kept.
    """
    runs = [load_finished(folder, device=device) for folder in folders.values()]
    members = tuple(map(_member, _names(list(folders)), origins, folders.values(), runs))
    about = _about(FusedBy.SCORE, fusion, members, None)
    whole = as_one(about, runs)
    _write(about, whole, list(folders.values()), out, seen=True)
    return whole


def _about(by: FusedBy, fusion: ScoreFusion, members: tuple[Member, ...], gain: Gain | None) -> EnsembleFile:
    numbers = {"weights": fusion.weights, "means": fusion.means, "deviations": fusion.deviations}
    return EnsembleFile(by=by, **numbers, members=members, gain=gain)


def _opened(folders: Sequence[Path], device: torch.device, *, fitting: bool) -> list[LoadedRun]:
    """The runs, loaded; raises InputError for what cannot be fused with the first, or at all."""
    if len(folders) < 2:
        raise InputError("an ensemble needs two runs at least; name more")
    for place, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:place]]:
            raise InputError(f"{folder}: is named twice")
        if is_ensemble(folder):
            raise InputError(f"{folder}: is an ensemble itself; name its members' runs")
        experiment = read_experiment(folder)
        for name in COPIED:
            if name != LOG and not (folder / name).is_file():
                raise InputError(f"{folder}: has no {name}: the run has not finished, or an earlier version wrote it")
        if not experiment.task.fused_by:
            raise InputError(
                f"{folder}: learned the task {experiment.task.name}, whose images are compared with texts as each "
                "model's own text tower reads them; such models are not fused. Mix their weights instead (soups in a "
                "sweep's finals)"
            )
        if fitting and experiment.part == "train_all":
            raise InputError(
                f"{folder}: was trained on the validation people too, on whom weights are fitted; name a run that was "
                "not, or give --weights"
            )
    runs = [load_finished(folder, device=device) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        _refuse_other_questions(folder, run, folders[0], runs[0])
    return runs


def _asked(task: Task) -> dict[str, Any]:
    """What a task is but for its objective: that chose each run's best unit, and weights are fitted for the first's."""
    return task.model_dump(exclude={"objective"})


def _refuse_other_questions(folder: Path, run: LoadedRun, first: Path, reference: LoadedRun) -> None:
    """Raise InputError unless ``run`` was trained on one side of the split on whose other side both are asked."""
    ours, theirs = run.context, reference.context
    trained = ModelFile.from_file(folder / MODEL_FILE).manifest_hash
    if trained != ours.prepared.protocol.manifest_hash:
        raise InputError(
            f"{folder}: was trained on data that {shown_path(ours.prepared.folder)} does not hold any more: whom "
            "it was trained on cannot be told from whom it would be fused on; train it again"
        )
    if _asked(ours.task) != _asked(theirs.task):
        raise InputError(f"{folder}: has another task than {first}")
    if trained != theirs.prepared.protocol.manifest_hash:
        raise InputError(
            f"{folder}: was trained on other data, or another split of them, than {first}: its training people may be "
            "among those that the other was validated on"
        )
    if ours.prepared.protocol.draws != theirs.prepared.protocol.draws:
        raise InputError(
            f"{folder}: its data have other gallery draws than those of {first}; prepare them once for both"
        )
    for what, asked in ours.dataset.asked.items():
        if asked != theirs.dataset.asked[what]:
            raise InputError(f"{folder}: has other data.{what} than {first}; they are scored on one set of queries")


def _way(
    runs: Sequence[LoadedRun], folders: Sequence[Path], by: FusedBy | None, weights: Sequence[float] | None
) -> FusedBy:
    """How they are fused; raises InputError if they cannot be fused so."""
    task = runs[0].context.task
    if by is not None and by not in task.fused_by:
        raise InputError(f"--by {by}: models of the task {task.name} are fused by {' or '.join(task.fused_by)}")
    usual = task.fused_by[0] if weights is None else task.shares_of
    chosen = by or usual or task.fused_by[0]
    if weights is not None and chosen is FusedBy.VOTE:
        raise InputError("--weights: votes have none; leave them out")
    if weights is not None and task.shares_of is None:
        raise InputError(f"--weights: those of the task {task.name} are fitted; leave them out")
    if weights is not None and chosen is not task.shares_of:
        raise InputError(
            f"--weights: are shares of {task.shares_of}s; with --by {chosen} they are fitted: leave them out"
        )
    for folder, run in zip(folders, runs, strict=True):
        if chosen is FusedBy.FEATURE and run.model.pairwise_similarity is not None:
            raise InputError(
                f"{folder}: compares vectors by likelihood ratios, not by their cosine; choose --by score or --by vote"
            )
    return chosen


def _shares(weights: Sequence[float], num: int) -> tuple[float, ...]:
    if len(weights) != num or min(weights) < 0 or not np.isfinite(weights).all() or not sum(weights) > 0:
        raise InputError(
            f"--weights {','.join(f'{weight:g}' for weight in weights)}: {num} runs need as many numbers, none "
            "negative and not all zero"
        )
    return tuple(weight / sum(weights) for weight in weights)


def _gain(answers: Answers, found: Comparison, names: Sequence[str], *, fitted: bool) -> Gain:
    crossed = answers.crossed() if fitted else None
    return Gain(
        best=names[answers.best],
        difference=_figure(found),
        crossed=None if crossed is None else _figure(answers.against_best(crossed)),
        fitted=fitted,
        probability=found.probability,
        num_people=found.num_identities,
    )


def _figure(found: Comparison) -> Figure:
    return Figure(value=found.difference, low=found.low, high=found.high, num_identities=found.num_identities)


def _points(figure: Figure) -> str:
    return f"{100 * figure.value:+.2f} (95 % {100 * figure.low:.2f} to {100 * figure.high:.2f})"


def _member(name: str, origin: str, folder: Path, run: LoadedRun) -> Member:
    known = weights_hash(run.model, load_tensors(folder / BEST))
    return Member(name=name, origin=origin, hash=known, file=file_hash(folder / BEST))


def _validated(whole: LoadedRun) -> ValidationFile:
    with each_image_once(whole.model):
        scores = score(whole.context, whole.model, whole.inputs, "val")
        return validation_file(scores, whole.model, whole.context, whole.inputs)


def _names(called: Sequence[str]) -> list[str]:
    """Names of the members' folders: a number, and what the run is called as far as it suits a folder."""
    return [f"{number}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', part)[-60:]}" for number, part in enumerate(called, start=1)]


def _write(about: EnsembleFile, whole: LoadedRun, folders: Sequence[Path], out: Path, *, seen: bool) -> None:
    """Write the ensemble into ``out``, whole or not at all."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _fill(partial, about, whole, folders, seen=seen)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(partial: Path, about: EnsembleFile, whole: LoadedRun, folders: Sequence[Path], *, seen: bool) -> None:
    for member, folder in zip(about.members, folders, strict=True):
        copy = partial / MEMBERS / member.name
        copy.mkdir(parents=True)
        for name in COPIED:
            if name != LOG or (folder / name).is_file():
                shutil.copy2(folder / name, copy / name)
    known = SEEN_ALL if seen else _validated(whole)
    write_text(partial / VALIDATION_FILE, known.model_dump_json(indent=2))
    write_text(partial / ENSEMBLE, about.model_dump_json(indent=2))
