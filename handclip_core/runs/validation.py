"""What a finished run knows from its validation images: figures with intervals, groups of people, and thresholds."""

from pathlib import Path

import numpy as np
from pydantic import Field

from handclip_core.config import Config
from handclip_core.data.inputs import Inputs
from handclip_core.evaluation.bootstrap import estimate
from handclip_core.evaluation.breakdown import breakdown
from handclip_core.evaluation.embed import embed
from handclip_core.evaluation.protocol import ProtocolScores
from handclip_core.evaluation.similarity import cosine
from handclip_core.evaluation.thresholds import Thresholds, fit_thresholds
from handclip_core.evaluation.units import Evaluation
from handclip_core.evaluation.verification import SEEN
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.context import ExperimentContext
from handclip_core.types import ASPECT_INDEX, Aspect

VALIDATION_FILE, TEST_FILE = "validation.json", "test.json"
"""What is known of a run from validation images, and what the finals' look at the test images gave of a final model."""


class Figure(Config):
    """A figure and its 95 % interval over ``num_identities`` identities (or images, in tasks without identities)."""

    value: float
    """The figure."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    num_identities: int
    """What was resampled."""


class Group(Config):
    """People or images that share the ``value`` of a ``group`` such as skin tone."""

    group: str
    """What is told apart."""
    value: str
    """Which of them."""
    num_identities: int
    """People."""
    num_images: int
    """Images that were searched."""
    rank_1: Figure | None
    """Rank-1 over their searches; none if no search has a match."""


class Measured(Config):
    """Figures of a model on identities whom it was not trained on."""

    figures: dict[str, Figure] = Field(default_factory=dict)
    """By the label of a metric."""
    averaged: str = ""
    """What the figures are means over."""
    groups: tuple[Group, ...] = ()
    """Rank-1 by what the manifest says of people and images."""


class ValidationFile(Measured):
    """Figures of a run's best weights on validation identities, and what follows from them."""

    thresholds: Thresholds = Thresholds(refused=("no thresholds have been set for this model",))
    """For decisions in use."""


BEFORE = "measured with the same settings trained without the validation people, whom this model was trained on too"
"""Where thresholds are from that a model has though it was trained on all people."""
SEEN_ALL = ValidationFile(thresholds=Thresholds(refused=(SEEN,)))
"""Of a run that was trained on the validation identities too."""


def validation_file(scores: Evaluation, model: HandModel, context: ExperimentContext, inputs: Inputs) -> ValidationFile:
    """Figures and thresholds of ``model``, which reads ``inputs`` and was not trained on the validation identities.

    ``scores`` are those on the validation split.
    """
    found = measured(scores, context)
    if not isinstance(scores, ProtocolScores):
        return ValidationFile(**dict(found))
    return ValidationFile(**dict(found), thresholds=validation_thresholds(model, context, inputs))


def measured(scores: Evaluation, context: ExperimentContext) -> Measured:
    """The figures of ``scores`` with their intervals, in whole and by group."""
    metrics = context.task.metrics.in_finals
    figures = {metric.label: Figure(**vars(estimate(scores, metric.name))) for metric in metrics}
    if not isinstance(scores, ProtocolScores):
        return Measured(figures=figures, averaged=context.task.averaged)
    groups = tuple(
        Group(
            group=found.group,
            value=found.value,
            num_identities=found.num_identities,
            num_images=found.num_images,
            rank_1=Figure(**vars(found.cmc1)) if found.cmc1 else None,
        )
        for found in breakdown(scores, context.prepared.manifest)
    )
    return Measured(figures=figures, averaged=context.task.averaged, groups=groups)


def seen_all_but_before(model: HandModel, context: ExperimentContext, inputs: Inputs) -> ValidationFile:
    """Of a run that was trained on the validation identities too: the thresholds of ``model``, which came about in the
    same way without them.
    """
    thresholds = validation_thresholds(model, context, inputs)
    return ValidationFile(thresholds=thresholds.model_copy(update={"origin": BEFORE}))


def validation_thresholds(model: HandModel, context: ExperimentContext, inputs: Inputs) -> Thresholds:
    """Set on validation identities as the model is used: without being told what an image shows."""
    rows = context.rows("val")
    hidden = np.full_like(context.aspect_indices, ASPECT_INDEX[Aspect.UNKNOWN])
    found = embed(model, inputs, rows, aspects=hidden, device=context.device)
    aspects = context.prepared.manifest["aspect"].to_numpy(dtype=str)[rows]
    similarity = model.pairwise_similarity or cosine
    return fit_thresholds(found, context.identities[rows], aspects, similarity=similarity)


def read_validation(folder: Path) -> ValidationFile:
    """What ``validation_file`` found, from the folder of a run; nothing of a folder without it."""
    path = folder / VALIDATION_FILE
    return ValidationFile.from_file(path) if path.exists() else ValidationFile()


def read_test(folder: Path) -> Measured:
    """What the finals measured of a final model on the test images; nothing of any other folder."""
    path = folder / TEST_FILE
    return Measured.from_file(path) if path.exists() else Measured()
