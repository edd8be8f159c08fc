"""How much each expert counts: weights chosen on validation people."""

import numpy as np
import torch

from handclip_core.data.inputs import Inputs
from handclip_core.data.manifest import Draw
from handclip_core.evaluation.embed import embed
from handclip_core.evaluation.fusion import ValidationSet, fit_score_fusion
from handclip_core.models.experts import ExpertFusion, ExpertsModel
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.context import Bench
from handclip_core.types import ASPECT_INDEX, Aspect

DRAWS = 3
"""Validation draws that the weights are fitted on; they share their pictures."""


def choose_shares(model: HandModel, inputs: Inputs, bench: Bench) -> None:
    """For every aspect, weigh its own expert against the others for the highest validation mAP of their summed scores.

    Does nothing to models without weighted experts. Scores are standardised by those of impostors, see ``ScoreFusion``.
    """
    if not isinstance(model, ExpertsModel) or model.fusion is not ExpertFusion.SCORES or len(model.aspects) < 2:
        return
    model.shares.fill_(1 / len(model.aspects))
    rows = bench.rows("val")
    fused = embed(model, inputs, rows, aspects=bench.aspect_indices, device=bench.device)
    views = fused.view(len(rows), len(model.aspects), -1).numpy() * np.sqrt(len(model.aspects))
    place = {int(row): index for index, row in enumerate(rows)}

    def validation(draw: Draw, aspect: Aspect) -> ValidationSet:
        query, gallery = (np.array([place[row] for row in side[aspect]]) for side in (draw.query, draw.gallery))
        cosines = np.einsum("qmw,gmw->mqg", views[query], views[gallery])
        own = model.aspects.index(aspect)
        others = (cosines.sum(axis=0) - cosines[own]) / (len(model.aspects) - 1)
        who = bench.identities
        return ValidationSet((cosines[own], others), who[rows[query]], who[rows[gallery]])

    for own, aspect in enumerate(model.aspects):
        draws = [draw for draw in bench.draws("val")[:DRAWS] if draw.query.get(aspect) and draw.gallery.get(aspect)]
        if not draws:
            continue
        fitted = fit_score_fusion([validation(draw, aspect) for draw in draws])
        mine, rest = (weight / spread for weight, spread in zip(fitted.weights, fitted.deviations, strict=True))
        shares = torch.full((len(model.aspects),), rest / (len(model.aspects) - 1))
        shares[own] = mine
        model.shares[ASPECT_INDEX[aspect]] = shares / shares.sum()
