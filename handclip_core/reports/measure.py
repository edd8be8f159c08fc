"""Everything that is measured of one model on one split."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.breakdown import GroupScores, breakdown
from handclip_core.evaluation.gallery_splits import Similarity
from handclip_core.evaluation.open_set import OpenSetScores, Probes, open_set_probes, open_set_scores
from handclip_core.evaluation.protocol import GalleryKind, ProtocolScores, cross_aspect_scores, score_gallery_splits
from handclip_core.evaluation.rerank import RANKINGS
from handclip_core.evaluation.similarity import cosine
from handclip_core.evaluation.storage import summary
from handclip_core.evaluation.verification import SEEN, PairScores, VerificationScores, pair_scores, verification_scores
from handclip_core.models.hand_model import HandModel
from handclip_core.reports.text import breakdown_table, cross_table, open_set_text, scores_table, verification_text
from handclip_core.runs.context import ExperimentContext
from handclip_core.tasks.base import Split
from handclip_core.tasks.identities.data import IdentityData, identity_data


@dataclass(frozen=True)
class View:
    """How a model is evaluated: which identities, with the mirror image or not, and how a gallery is ranked.

    With ``hide_aspects`` it is not told which side of which hand an image shows. ``gallery`` is the kind of gallery;
    None for that of the run's data.
    """

    split: Split
    flip: bool = False
    ranking: Literal["cosine", "rerank", "expand"] = "cosine"
    hide_aspects: bool = False
    gallery: GalleryKind | None = None


@dataclass(frozen=True)
class Measured:
    """The figures of one model; ``open_set`` is the reason if the data cannot support a figure."""

    scores: ProtocolScores
    verified: VerificationScores
    open_set: OpenSetScores | str
    cross: Mapping[tuple[str, str], ProtocolScores]
    groups: list[GroupScores]

    def values(self) -> dict[str, Any]:
        """All figures as plain values for JSON."""
        return {
            "scores": summary(self.scores),
            "verification": asdict(self.verified),
            "open_set": self.open_set if isinstance(self.open_set, str) else asdict(self.open_set),
            "cross_aspect": {f"{one} -> {other}": summary(found) for (one, other), found in self.cross.items()},
            "breakdown": [asdict(group) for group in self.groups],
        }

    def text(self, rows: Mapping[str, ProtocolScores], split: Split) -> str:
        """Tables for a terminal; ``rows`` are this model and what stands beside it."""
        tables = [scores_table(rows, split=split), verification_text(self.verified), open_set_text(self.open_set)]
        crossed = [cross_table(self.cross)] if self.cross else []
        return "\n\n".join([*tables, *crossed, breakdown_table(self.groups)])


def measure(
    embeddings: Tensor, on_val: Tensor | None, context: ExperimentContext, view: View, *, model: HandModel
) -> Measured:
    """Measure ``embeddings`` [N, D] of the rows of the view's split; thresholds come from ``on_val``, those of val.

    Without them, because the model was trained on these people, what needs a threshold is refused.

    The similarities of ``model`` are used: one of its own for ranks if the view ranks by cosine.
    """
    split, pairwise = view.split, model.pairwise_similarity
    scores = scored(embeddings, context, view, similarity=model.similarity)
    pairs = _pairs(embeddings, context, split, pairwise)
    probes = None if on_val is None else _probes(embeddings, context, split, pairwise)
    return Measured(
        scores=scores,
        verified=verification_scores(pairs, None if on_val is None else _pairs(on_val, context, "val", pairwise)),
        open_set=SEEN
        if on_val is None or probes is None
        else _open_set(probes, _probes(on_val, context, "val", pairwise)),
        cross=_cross(embeddings, context, split, pairwise),
        groups=breakdown(scores, context.prepared.manifest),
    )


def scored(
    embeddings: Tensor | NDArray[np.float32],
    context: ExperimentContext,
    view: View,
    *,
    similarity: Similarity | None = None,
) -> ProtocolScores:
    """Retrieval scores of ``embeddings`` [N, D] of the rows of the view's split."""
    data = _data(context)
    return score_gallery_splits(
        embeddings,
        data.rows(view.split),
        data.gallery_splits(view.split),
        data.identities,
        gallery=view.gallery or data.gallery,
        similarity=RANKINGS[view.ranking] or similarity,
    )


def _data(context: ExperimentContext) -> IdentityData:
    return identity_data(context.dataset, what="a report on galleries, thresholds and aspects")


def _pairs(embeddings: Tensor, context: ExperimentContext, split: Split, similarity: Similarity | None) -> PairScores:
    rows = context.rows(split)
    aspects = context.prepared.manifest["aspect"].to_numpy(dtype=str)[rows]
    return pair_scores(embeddings, context.identities[rows], groups=aspects, similarity=similarity or cosine)


def _probes(embeddings: Tensor, context: ExperimentContext, split: Split, similarity: Similarity | None) -> Probes:
    """Searches of an open set; data with distractors have their own identities outside the gallery, in the test."""
    rows = context.rows(split)
    distractors = rows[context.prepared.manifest["subset"].to_numpy(dtype=str)[rows] == "distractor"]
    outsiders = distractors.tolist() or None
    gallery_splits, identities = _data(context).gallery_splits(split), context.identities
    return open_set_probes(embeddings, rows, gallery_splits, identities, distractors=outsiders, similarity=similarity)


def _open_set(test: Probes, validation: Probes) -> OpenSetScores | str:
    try:
        return open_set_scores(test, validation)
    except InputError as error:
        return str(error)


def _cross(
    embeddings: Tensor, context: ExperimentContext, split: Split, similarity: Similarity | None
) -> dict[tuple[str, str], ProtocolScores]:
    rows, gallery_splits, identities = context.rows(split), _data(context).gallery_splits(split), context.identities
    try:
        return cross_aspect_scores(embeddings, rows, gallery_splits, identities, similarity=similarity)
    except InputError:
        return {}  # one aspect alone, or aspects without an identity in common: there is nothing to search across
