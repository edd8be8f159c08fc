"""Searches in galleries that several models answer together."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from handclip_core.evaluation.fusion import (
    ScoreFusion,
    ValidationSet,
    equal_score_fusion,
    fit_score_fusion,
)
from handclip_core.evaluation.joined import FusedBy
from handclip_core.evaluation.protocol import ProtocolScores, collect
from handclip_core.evaluation.similarity import cosine
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.ensemble import joined_of
from handclip_core.tasks.answers import Answers, Ints, Loaded

if TYPE_CHECKING:
    from handclip_core.tasks.identities.evaluator import IdentityEvaluator


class GalleryAnswers(Answers):
    """Searches in galleries, fused ``by`` one of the ways."""

    def __init__(
        self, models: Sequence[Loaded], objective: str, *, evaluator: "IdentityEvaluator", by: FusedBy
    ) -> None:
        super().__init__(models, objective)
        self.evaluator, self.by = evaluator, by

    @cached_property
    def singles(self) -> Sequence[Evaluation]:
        """Each model by its own similarity, or the distance."""
        return [self.evaluator.evaluate(one.model, one.inputs) for one in self.models]

    @cached_property
    def people(self) -> Ints:
        """Who is searched for."""
        return np.unique(np.concatenate([np.asarray(one.query_ids) for one in self._sets]))

    def can_fit(self, among: Ints) -> bool:
        """Whether any of them has a match in a gallery."""
        return any(_about(one, among) is not None for one in self._sets)

    def fit(self, among: Ints) -> ScoreFusion:
        """By mean mAP over aspects and draws; votes have equal weights."""
        sets = [part for one in self._sets if (part := _about(one, among)) is not None]
        if self.by is FusedBy.VOTE:
            return equal_score_fusion(sets)
        return fit_score_fusion(sets, standardise=self.by is FusedBy.SCORE)

    def equal(self) -> ScoreFusion:
        """Of scores brought to one scale."""
        return equal_score_fusion(self._sets)

    def score(self, fusion: ScoreFusion) -> ProtocolScores:
        """Figures over all draws."""
        joined = joined_of([one.model for one in self.models], self.by, fusion)
        return self.evaluator.scores_of(joined.join(self._vectors), similarity=joined.similarity)

    def halves(self, one: Evaluation, other: Evaluation, among: Ints) -> ProtocolScores:
        """Query by query."""
        assert isinstance(one, ProtocolScores)
        assert isinstance(other, ProtocolScores)
        first, columns = (
            np.isin(self.evaluator.identity_codes[one.queries.row], among),
            ("ap", "ap_trapezoid", "inp", "first_rank"),
        )
        mixed = {name: np.where(first, getattr(one.queries, name), getattr(other.queries, name)) for name in columns}
        queries = replace(one.queries, **mixed)
        return collect(queries, one.aspects, gallery=one.gallery, without_query=one.without_query)

    @cached_property
    def _vectors(self) -> list[Tensor]:
        return [self.evaluator.embedded(one.model, one.inputs) for one in self.models]

    @cached_property
    def _sets(self) -> list[ValidationSet]:
        return [
            ValidationSet(
                tuple(
                    (one.model.pairwise_similarity or cosine)(vectors[search.query], vectors[search.gallery])
                    .cpu()
                    .numpy()
                    for one, vectors in zip(self.models, self._vectors, strict=True)
                ),
                search.query_ids,
                search.gallery_ids,
            )
            for search in self.evaluator.measured_searches()
        ]


def _about(one: ValidationSet, among: Ints) -> ValidationSet | None:
    """The queries of ``among``; None if none of them has a match."""
    asked = np.asarray(one.query_ids)
    kept = np.isin(asked, among)
    if not np.isin(asked[kept], np.asarray(one.gallery_ids)).any():
        return None
    return ValidationSet([scores[kept] for scores in one.similarities], asked[kept], one.gallery_ids)
