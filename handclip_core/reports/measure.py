"""Everything that is measured of one model on one split."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.breakdown import GroupScores, breakdown
from handclip_core.evaluation.gallery_splits import Similarity
from handclip_core.evaluation.open_set import OpenSetScores, Probes, open_set_probes, open_set_scores
from handclip_core.evaluation.protocol import (
    Enrolled,
    GalleryKind,
    ProtocolScores,
    cross_aspect_scores,
    score_gallery_splits,
)
from handclip_core.evaluation.rerank import RANKINGS
from handclip_core.evaluation.similarity import Distance, cosine, euclidean
from handclip_core.evaluation.storage import summary
from handclip_core.evaluation.verification import SEEN, PairScores, VerificationScores, pair_scores, verification_scores
from handclip_core.models.hand_model import HandModel
from handclip_core.reports.text import breakdown_table, cross_table, open_set_text, scores_table, verification_text
from handclip_core.runs.context import ExperimentContext
from handclip_core.tasks.base import Split
from handclip_core.tasks.galleries import GalleryData, galleries_of


@dataclass(frozen=True)
class View:
    """How a model is evaluated: which identities, with the mirror image or not, and how a gallery is ranked.

    With ``hide_aspects`` it is not told which side of which hand an image shows. ``gallery`` is the kind of gallery,
    ``enrolled`` which images stand in it, ``distance`` what orders it; None for those of the run's data.
    """

    split: Split
    flip: bool = False
    ranking: Literal["cosine", "rerank", "expand"] = "cosine"
    hide_aspects: bool = False
    gallery: GalleryKind | None = None
    enrolled: Enrolled | None = None
    distance: Distance | None = None

    def __post_init__(self) -> None:
        if self.distance is Distance.EUCLIDEAN and RANKINGS[self.ranking] is not None:
            raise InputError(f"--distance euclidean: --ranking {self.ranking} goes by the cosine; give one of the two")

    def rows(self, context: ExperimentContext) -> NDArray[np.int64]:
        """Every manifest row that is scored, ascending."""
        data = context.dataset.galleries
        return context.rows(self.split) if data is None else data.rows(self.split, enrolled=self.enrolled)

    def decided(self, data: GalleryData, similarity: Similarity | None) -> dict[str, Any]:
        """Its values, with the data's settings where it leaves them open, and the distance that orders a gallery.

        That is ``own`` for models with a ``similarity`` of their own.
        """
        ordered = "own" if similarity and RANKINGS[self.ranking] is None else Distance.COSINE
        return asdict(self) | {
            "gallery": self.gallery or data.gallery,
            "enrolled": self.enrolled or data.enrolled,
            "distance": Distance.EUCLIDEAN if self.raw(data, similarity) else ordered,
        }

    def file_name(self, data: GalleryData) -> str:
        """Name of the files of an evaluation: the split, and what is other than the data's own settings."""
        own = (data.gallery, data.enrolled, data.distance)
        parts = zip((self.gallery, self.enrolled, self.distance), own, strict=True)
        return "_".join(["evaluation", self.split, *(mine for mine, theirs in parts if mine not in (None, theirs))])

    def raw(self, data: GalleryData, similarity: Similarity | None) -> bool:
        """Whether embeddings are compared as they are, before they are brought to length 1."""
        plain = RANKINGS[self.ranking] is None and similarity is None
        return plain and (self.distance or data.distance) is Distance.EUCLIDEAN


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
    pairwise = model.pairwise_similarity
    scores = scored(embeddings, context, view, similarity=model.similarity)
    pairs = _pairs(embeddings, context, view, pairwise)
    probes = None if on_val is None else _probes(embeddings, context, view, pairwise)
    val = replace(view, split="val")
    return Measured(
        scores=scores,
        verified=verification_scores(pairs, None if on_val is None else _pairs(on_val, context, val, pairwise)),
        open_set=SEEN
        if on_val is None or probes is None
        else _open_set(probes, _probes(on_val, context, val, pairwise)),
        cross=_cross(embeddings, context, view, pairwise),
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
    raw = view.raw(data, similarity)
    return score_gallery_splits(
        embeddings,
        view.rows(context),
        data.gallery_splits(view.split, enrolled=view.enrolled),
        data.identities,
        gallery=view.gallery or data.gallery,
        similarity=euclidean if raw else RANKINGS[view.ranking] or similarity,
        unit=not raw,
    )


def _data(context: ExperimentContext) -> GalleryData:
    return galleries_of(context.dataset, what="a report on galleries, thresholds and aspects")


def _pairs(embeddings: Tensor, context: ExperimentContext, view: View, similarity: Similarity | None) -> PairScores:
    rows = view.rows(context)
    aspects = context.prepared.manifest["aspect"].to_numpy(dtype=str)[rows]
    return pair_scores(embeddings, context.identities[rows], groups=aspects, similarity=similarity or cosine)


def _probes(embeddings: Tensor, context: ExperimentContext, view: View, similarity: Similarity | None) -> Probes:
    """Searches of an open set; data with distractors have their own identities outside the gallery, in the test."""
    rows = view.rows(context)
    distractors = rows[context.prepared.manifest["subset"].to_numpy(dtype=str)[rows] == "distractor"]
    outsiders = distractors.tolist() or None
    gallery_splits = _data(context).gallery_splits(view.split, enrolled=view.enrolled)
    return open_set_probes(
        embeddings, rows, gallery_splits, context.identities, distractors=outsiders, similarity=similarity
    )


def _open_set(test: Probes, validation: Probes) -> OpenSetScores | str:
    try:
        return open_set_scores(test, validation)
    except InputError as error:
        return str(error)


def _cross(
    embeddings: Tensor, context: ExperimentContext, view: View, similarity: Similarity | None
) -> dict[tuple[str, str], ProtocolScores]:
    gallery_splits = _data(context).gallery_splits(view.split, enrolled=view.enrolled)
    raw = view.raw(_data(context), similarity)
    try:
        return cross_aspect_scores(
            embeddings,
            view.rows(context),
            gallery_splits,
            context.identities,
            similarity=euclidean if raw else similarity,
            unit=not raw,
        )
    except InputError:
        return {}  # one aspect alone, or aspects without an identity in common: there is nothing to search across
