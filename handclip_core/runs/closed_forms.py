"""What a model gets without a gradient: the metric of its embedding, and what it sets by validation images."""

import numpy as np

from handclip_core.data.inputs import Inputs
from handclip_core.data.training import Part
from handclip_core.evaluation.embed import unmapped
from handclip_core.models.closed_form import whole_groups
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.context import ExperimentContext
from handclip_core.strategies import Strategy

MOST_NUMBERS = 2**29
"""Of vectors that a metric is fitted to: 2 GiB."""


def fit_closed_forms(
    model: HandModel, strategy: Strategy, inputs: Inputs, context: ExperimentContext, part: Part
) -> None:
    """Fit all that has a closed form to what the model, as it is now, makes of images: after each change of weights."""
    model.calibrate(context.evaluator("val"), inputs)
    fit_metric(model, strategy, inputs, context, part)


def fit_metric(model: HandModel, strategy: Strategy, inputs: Inputs, context: ExperimentContext, part: Part) -> None:
    """Fit the metric to the training images of ``part``; does nothing to models without one.

    Of so many images that their vectors hold more than MOST_NUMBERS, whole identities are taken that do not.
    """
    if not model.metric.active:
        return
    labelled = strategy.metric_labels(context.training_data(part))
    _, people = np.unique(context.identities[labelled.rows], return_inverse=True)
    kept = whole_groups(people, MOST_NUMBERS // sum(model.metric.widths))
    vectors = unmapped(model, inputs, labelled.rows[kept], aspects=context.aspect_indices, device=context.device)
    model.metric.fit(vectors.numpy(), labelled.pool.labels[kept], people[kept])
