"""The baselines on the data of an experiment: described, fitted to its training images if need be, and scored."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from handclip_core.config import Config
from handclip_core.console import track
from handclip_core.data.pixels import DECODE_VERSION
from handclip_core.data.training import LabelBy, Part
from handclip_core.devices import select_device
from handclip_core.documents import read_document
from handclip_core.errors import InputError
from handclip_core.evaluation.baselines import BASELINES, Baseline, Descriptors
from handclip_core.evaluation.bootstrap import compare_paired, estimate
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.closed_form import whole_groups
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, context_of
from handclip_core.runs.run_folder import write_json
from handclip_core.tasks import AnyTask
from handclip_core.tasks.base import Split

CHUNK = 256
"""Images described at a time."""
MOST_FITTED = 10_000
"""Training images that a closed form is fitted to: more would take more memory than they say."""
SCORES_VERSION = 1
"""Counts up where the same images get other scores; older ones in caches are then of no use."""
ABOUT = "baselines.json"


@dataclass(frozen=True, eq=False)
class BaselineScores:
    """Validation scores of the baselines by name, and the reasons of those that do not fit the data."""

    scores: dict[str, Evaluation]
    failures: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path, manifest_hash: str, task: AnyTask) -> None:
        """Write them, evaluations of ``task``, into ``folder``; the file that vouches for the others comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, found in self.scores.items():
            task.save(folder / f"{name}.npz", found)
        write_json(
            folder / ABOUT, {"manifest_hash": manifest_hash, "names": list(self.scores), "failures": self.failures}
        )

    @classmethod
    def load(cls, folder: Path, manifest_hash: str, task: AnyTask) -> "BaselineScores | None":
        """What ``save`` wrote into ``folder`` of the same data; None if any baseline of ``task`` is not there."""
        try:
            about = read_document(folder / ABOUT)
            if about["manifest_hash"] != manifest_hash or {*about["names"], *about["failures"]} != {*task.baselines}:
                return None
            return cls({name: task.load(folder / f"{name}.npz") for name in about["names"]}, about["failures"])
        except (InputError, KeyError, TypeError):
            return None


class BaselineGap(Config):
    """A baseline, and by how much a model is above it on the same questions."""

    name: str
    """Which baseline."""
    value: float
    """Its score by the task's objective."""
    difference: float
    """The model's score less that."""
    low: float
    """Lower end of the difference's 95 % interval."""
    high: float
    """Upper end of it."""

    @property
    def beaten(self) -> bool:
        """Whether the model is better by an interval without zero."""
        return self.low > 0

    def sentence(self, label: str, *, of: int) -> str:
        """What a report says of the winner beside this, the best ``of`` so many; ``label`` is that of the objective."""
        low, high = (f"{100 * end:+.2f}" for end in (self.low, self.high))
        figures = (
            f"difference {100 * self.difference:+.2f} {label} (95 % {low} to {high}), the baseline at "
            f"{100 * self.value:.2f}, on the same queries."
        )
        if self.beaten:
            return f"The winner beats the best of {of} baselines, {self.name}: {figures}"
        said = "is worse than" if self.high < 0 else "is not shown to beat"
        return f"The winner {said} the baseline {self.name}, which uses no CLIP: {figures}"


def score_baselines(example: Experiment, device: str) -> BaselineScores:
    """Every baseline on the validation split of ``example``, those with a fit fitted to the training images.

    They are scored once a machine, data set and form of its images, and kept in its cache.
    """
    context, task = context_of(example, select_device(device)), example.task
    protocol = context.prepared.protocol
    form = [SCORES_VERSION, DECODE_VERSION, context.pixels.size_px, str(context.pretrained.frame)]
    key = json.dumps(
        [*form, protocol.model_dump_json(), task.model_dump(mode="json"), example.data.model_dump(mode="json")]
    )
    folder = context.cache / f"baselines-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    with FileLock(f"{folder}.lock"):
        known = BaselineScores.load(folder, protocol.manifest_hash, task)
        if known is None:
            known = _scored(context)
            if not known.failures:  # which may have been the disk's
                known.save(folder, protocol.manifest_hash, task)
    return known


def _scored(context: ExperimentContext) -> BaselineScores:
    found = BaselineScores({})
    for name in context.task.baselines:
        try:
            found.scores[name] = baseline_scores(name, context, "val")
        except InputError as error:
            found.failures[name] = str(error)
    return found


def gaps_to(baselines: Mapping[str, Evaluation], model: Evaluation, objective: str) -> tuple[BaselineGap, ...]:
    """How far ``model`` is above each of the ``baselines``, the best of them first."""
    found = []
    for name, scores in baselines.items():
        gap = compare_paired(model, scores, objective)
        value = estimate(scores, objective).value
        found.append(BaselineGap(name=name, value=value, difference=gap.difference, low=gap.low, high=gap.high))
    return tuple(sorted(found, key=lambda one: -one.value))


def write_gaps(folder: Path, experiment: Experiment, results: Evaluation, device: str) -> None:
    """Hold ``results`` of a run against the baselines of its task, if it has any, and keep that in its ``folder``."""
    if experiment.task.baselines:
        found = score_baselines(experiment, device)
        gaps = gaps_to(found.scores, results, experiment.task.metrics.objective.name)
        write_json(folder / ABOUT, [gap.model_dump() for gap in gaps])


def read_gaps(folder: Path) -> Sequence[BaselineGap]:
    """What ``write_gaps`` kept in ``folder``, the best baseline first; nothing if it did not."""
    path = folder / ABOUT
    found = read_document(path) if path.exists() else []
    return [BaselineGap.parse(each, source=str(path)) for each in found]


def baseline_descriptors(
    name: str, context: ExperimentContext, rows: NDArray[np.int64], *, part: Part = "train"
) -> Descriptors:
    """What the baseline ``name`` makes of manifest ``rows`` [n]: [n, D]; a trained one is fitted to ``part``.

    Classes of the fit are an identity's aspects. Raises InputError if the training images do not support it.
    """
    baseline = BASELINES[name]
    found = _described(baseline, context, rows, name)
    if not baseline.trained:
        return found
    labelled = context.training_data(part).labelled(LabelBy.PERSON_ASPECT)
    _, people = np.unique(context.identities[labelled.rows], return_inverse=True)
    kept = whole_groups(people, MOST_FITTED)
    training = _described(baseline, context, labelled.rows[kept], f"{name}, training images")
    return baseline.mapped(found, training, labelled.pool.labels[kept], people[kept])


def baseline_scores(name: str, context: ExperimentContext, split: Split) -> Evaluation:
    """Scores of the baseline ``name``, one of the task's, on ``split``."""
    evaluator = context.evaluator(split)
    return evaluator.scores_of(baseline_descriptors(name, context, evaluator.rows))


def _described(baseline: Baseline, context: ExperimentContext, rows: NDArray[np.int64], what: str) -> Descriptors:
    starts = range(0, len(rows), CHUNK)
    parts = (rows[start : start + CHUNK] for start in starts)
    return np.concatenate(
        [baseline.describe(context.pixels.batch(each)) for each in track(parts, description=what, total=len(starts))]
    )
