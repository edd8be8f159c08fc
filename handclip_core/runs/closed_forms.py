"""What a model gets without a gradient: the metric of its embedding, and what it sets by validation images."""

import numpy as np

from handclip_core.data.inputs import Inputs
from handclip_core.data.training import Part
from handclip_core.evaluation.embed import unmapped
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.context import ExperimentContext
from handclip_core.strategies import Strategy


def fit_closed_forms(
    model: HandModel, strategy: Strategy, inputs: Inputs, context: ExperimentContext, part: Part
) -> None:
    """Fit all that has a closed form to what the model, as it is now, makes of images: after each change of weights."""
    model.calibrate(context.evaluator("val"), inputs)
    fit_metric(model, strategy, inputs, context, part)


def fit_metric(model: HandModel, strategy: Strategy, inputs: Inputs, context: ExperimentContext, part: Part) -> None:
    """Fit the metric to the training images of ``part``; does nothing to models without one."""
    if not model.metric.active:
        return
    labelled = strategy.metric_labels(context.training_data(part))
    vectors = unmapped(model, inputs, labelled.rows, aspects=context.aspect_indices, device=context.device)
    _, people = np.unique(context.identities[labelled.rows], return_inverse=True)
    model.metric.fit(vectors.numpy(), labelled.pool.labels, people)
