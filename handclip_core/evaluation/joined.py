"""Embeddings of several models side by side, and how two of them are compared: as one model is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from handclip_core.evaluation.fusion import ScoreFusion, vote
from handclip_core.evaluation.similarity import cosine

Compare = Callable[[Tensor, Tensor], Tensor]


class FusedBy(StrEnum):
    """What of several models is fused."""

    SCORE = "score"
    """The weighted sum of their scores, each brought to the scale of its impostors in validation."""
    FEATURE = "feature"
    """Their unit vectors side by side: the cosine is the weighted mean of the models' cosines."""
    VOTE = "vote"
    """Votes on the order of the gallery: first places, then the Borda count."""


@dataclass(frozen=True, eq=False)
class Joined:
    """Vectors of ``widths``, one a model, as one embedding; ``scores`` has the weights and scales of the models.

    ``pairwise`` and ``ranking`` are what models compare by in place of the cosine: a pair, and a gallery's entries.
    """

    by: FusedBy
    scores: ScoreFusion
    widths: tuple[int, ...]
    pairwise: tuple[Compare | None, ...]
    ranking: tuple[Compare | None, ...]

    @property
    def lengths(self) -> tuple[float, ...]:
        """The lengths of the models' vectors in the embedding, whose length is 1.

        The cosine of vectors of the lengths sqrt(w_m / d_m) is sum_m w_m / d_m cos_m over sum_m w_m / d_m: it orders
        pairs as the weighted sum of scores with the deviations d_m does. If scores are not cosines, all lengths are
        equal, and mean nothing.
        """
        shares = [1.0] * len(self.widths)
        if self.by_cosine:
            shares = [
                weight / spread for weight, spread in zip(self.scores.weights, self.scores.deviations, strict=True)
            ]
        return tuple(sqrt(share / sum(shares)) for share in shares)

    @property
    def by_cosine(self) -> bool:
        """Whether the cosine of embeddings is the fused score."""
        return self.by is not FusedBy.VOTE and not any(self.pairwise)

    def join(self, vectors: Sequence[Tensor]) -> Tensor:
        """One embedding [B, W], float32 and of length 1, of the models' vectors [B, W_m]."""
        units = [F.normalize(each.float(), dim=1) * length for each, length in zip(vectors, self.lengths, strict=True)]
        return torch.cat(units, dim=1)

    @property
    def pairwise_similarity(self) -> Compare | None:
        """The score of pairs, from embeddings [Q, W] and [G, W] to [Q, G]; None for the cosine."""
        return None if self.by_cosine else self._summed

    @property
    def similarity(self) -> Compare | None:
        """What ranks a gallery: votes, or the score of pairs."""
        return self._votes if self.by is FusedBy.VOTE else self.pairwise_similarity

    def _summed(self, queries: Tensor, gallery: Tensor) -> Tensor:
        return torch.from_numpy(self.scores(self._each(self.pairwise, queries, gallery))).float()

    def _votes(self, queries: Tensor, gallery: Tensor) -> Tensor:
        return torch.from_numpy(vote(self._each(self.ranking, queries, gallery)))

    def _each(self, compare: Sequence[Compare | None], queries: Tensor, gallery: Tensor) -> list[NDArray[Any]]:
        """The scores [Q, G] of each model, of its own part of the embeddings."""
        parts = zip(compare, *(side.split(self.widths, dim=1) for side in (queries, gallery)), strict=True)
        return [
            (own or cosine)(F.normalize(left, dim=1), F.normalize(right, dim=1)).cpu().numpy()
            for own, left, right in parts
        ]
