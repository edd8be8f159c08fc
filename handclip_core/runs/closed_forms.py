"""What a model gets without a gradient: the metric of its embedding, and how much each expert counts."""

import numpy as np
import torch

from handclip_core.data.inputs import Inputs
from handclip_core.data.manifest import GallerySplit
from handclip_core.data.training import Part
from handclip_core.evaluation.embed import embed, unmapped
from handclip_core.evaluation.fusion import ValidationSet, fit_score_fusion
from handclip_core.models.hand_model import HandModel
from handclip_core.models.views.experts import ExpertFusion, PerViewExperts
from handclip_core.runs.context import ExperimentContext
from handclip_core.strategies import Strategy
from handclip_core.types import ASPECT_INDEX, Aspect

GALLERY_SPLITS = 3
"""Validation gallery splits that the weights are fitted on; they share their images."""


def fit_closed_forms(
    model: HandModel, strategy: Strategy, inputs: Inputs, context: ExperimentContext, part: Part
) -> None:
    """Fit all that has a closed form to what the model, as it is now, makes of images: after each change of weights."""
    fit_expert_weights(model, inputs, context)
    fit_metric(model, strategy, inputs, context, part)


def fit_metric(model: HandModel, strategy: Strategy, inputs: Inputs, context: ExperimentContext, part: Part) -> None:
    """Fit the metric to the training images of ``part``; does nothing to models without one."""
    if not model.metric.active:
        return
    labelled = strategy.metric_labels(context.training_data(part))
    vectors = unmapped(model, inputs, labelled.rows, aspects=context.aspect_indices, device=context.device)
    _, people = np.unique(context.identities[labelled.rows], return_inverse=True)
    model.metric.fit(vectors.numpy(), labelled.pool.labels, people)


def fit_expert_weights(model: HandModel, inputs: Inputs, context: ExperimentContext) -> None:
    """For every aspect, weigh its own expert against the others for the highest validation mAP of their summed scores.

    Does nothing to models without weighted experts. Scores are standardised by those of impostors, see ``ScoreFusion``.
    """
    if not isinstance(model, PerViewExperts) or model.fusion is not ExpertFusion.SCORES or len(model.aspects) < 2:
        return
    model.shares.fill_(1 / len(model.aspects))
    rows = context.rows("val")
    fused = embed(model, inputs, rows, aspects=context.aspect_indices, device=context.device)
    views = fused.view(len(rows), len(model.aspects), -1).numpy() * np.sqrt(len(model.aspects))
    place = {int(row): index for index, row in enumerate(rows)}

    def validation(gallery_split: GallerySplit, aspect: Aspect) -> ValidationSet:
        query, gallery = (
            np.array([place[row] for row in side[aspect]]) for side in (gallery_split.query, gallery_split.gallery)
        )
        cosines = np.einsum("qmw,gmw->mqg", views[query], views[gallery])
        own = model.aspects.index(aspect)
        others = (cosines.sum(axis=0) - cosines[own]) / (len(model.aspects) - 1)
        who = context.identities
        return ValidationSet((cosines[own], others), who[rows[query]], who[rows[gallery]])

    for own, aspect in enumerate(model.aspects):
        gallery_splits = [
            gallery_split
            for gallery_split in context.gallery_splits("val")[:GALLERY_SPLITS]
            if gallery_split.query.get(aspect) and gallery_split.gallery.get(aspect)
        ]
        if not gallery_splits:
            continue
        fitted = fit_score_fusion([validation(gallery_split, aspect) for gallery_split in gallery_splits])
        mine, rest = (weight / spread for weight, spread in zip(fitted.weights, fitted.deviations, strict=True))
        shares = torch.full((len(model.aspects),), rest / (len(model.aspects) - 1))
        shares[own] = mine
        model.shares[ASPECT_INDEX[aspect]] = shares / shares.sum()
