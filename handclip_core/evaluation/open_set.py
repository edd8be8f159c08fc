"""Open-set identification: identities outside the gallery must be rejected (ISO/IEC 19795-1:2021, FPIR and
TPIR).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.data.manifest import GallerySplit
from handclip_core.errors import InputError
from handclip_core.evaluation.gallery_splits import Similarity, SplitScorer
from handclip_core.evaluation.identities import Ids, identity_codes
from handclip_core.evaluation.verification import check_support, real_values, threshold_at

Ints = NDArray[np.int64]
Values = NDArray[np.float64]
SHARE = 0.3
"""Share of the identities that :func:`open_set_probes` leaves outside in each gallery split."""


@dataclass(frozen=True, eq=False)
class Probes:
    """Searches of a gallery.

    ``mated`` [M]: for each search of an identity in the gallery, the score of that identity if it stands first, else
    ``-inf``. ``unmated`` [U]: for each search of an identity outside it, the best score of any entry.
    """

    mated: Values
    unmated: Values

    def __post_init__(self) -> None:
        """Hold the scores in float64, in which thresholds are compared; raise InputError for NaN."""
        for name in ("mated", "unmated"):
            object.__setattr__(self, name, real_values(getattr(self, name), what=f"{name} searches"))


@dataclass(frozen=True)
class OpenSetScores:
    """True positive identification rate at rank 1 and at a threshold for ``fpir``; ``fpir_measured`` is met here."""

    fpir: float
    threshold: float
    tpir: float
    fpir_measured: float
    num_mated: int
    num_unmated: int


def probes(mated: NDArray[Any] | Tensor, query_ids: Ids, gallery_ids: Ids, unmated: NDArray[Any] | Tensor) -> Probes:
    """Searches from similarities of identities in the gallery [Q, G] and of others [U, G].

    An entry of another identity that scores as high as the match ranks before it. Raises InputError for NaN, for shapes
    that do not fit, and if the identity of a query of ``mated`` is not in the gallery.
    """
    query, gallery = identity_codes(query_ids, gallery_ids, names=("query_ids", "gallery_ids"))
    left, right = (
        np.asarray(block.detach().double().cpu() if isinstance(block, Tensor) else block) for block in (mated, unmated)
    )
    if left.shape != (len(query), len(gallery)) or right.shape[1:] != (len(gallery),):
        raise InputError(
            f"similarities are {list(left.shape)} and {list(right.shape)} "
            f"for {len(query)} queries with a match and a gallery of {len(gallery)}"
        )
    if not right.size or not left.size:
        raise InputError(
            "open-set identification needs a gallery, queries with their identity in it and queries without"
        )
    if np.isnan(left).any():
        raise InputError("a similarity of a query with its identity in the gallery is NaN")
    same = query[:, None] == gallery
    if not same.any(axis=1).all():
        raise InputError(f"query {int(np.argmin(same.any(axis=1)))} has no match in the gallery")
    return Probes(_first_place(left.astype(np.float64), same), right.astype(np.float64).max(axis=1))


def open_set_probes(
    embeddings: NDArray[Any] | Tensor,
    rows: Ids,
    gallery_splits: Sequence[GallerySplit],
    identities: Ids,
    *,
    distractors: Sequence[int] | None = None,
    share: float = SHARE,
    seed: int = 0,
    similarity: Similarity | None = None,
) -> Probes:
    """Searches of every gallery split and aspect, some of them of identities that are not in the gallery.

    Arguments are those of :func:`~handclip_core.evaluation.protocol.score_gallery_splits`; galleries hold the own
    aspect only. ``distractors`` are manifest rows of identities without queries: they are taken out of the galleries
    and searched. Without them a random ``share`` of the identities is left out of a gallery split, in all aspects at
    once. ``similarity`` takes the place of the cosine. Raises InputError if a side remains without a search.
    """
    scorer = SplitScorer(embeddings, rows, identities, similarity=similarity)
    random = np.random.default_rng(seed)
    extra = np.asarray([] if distractors is None else distractors, dtype=np.int64)
    parts = []
    for gallery_split in gallery_splits:
        searched = np.asarray([row for rows_of in gallery_split.query.values() for row in rows_of], dtype=np.int64)
        queried = np.unique(scorer.identities(searched))
        left_out = random.choice(queried, size=round(share * len(queried)), replace=False)
        outside = left_out if distractors is None else scorer.identities(extra)
        for aspect, query in gallery_split.query.items():
            gallery = np.asarray(gallery_split.gallery.get(aspect, ()), dtype=np.int64)
            if len(query) and len(gallery):
                chosen = np.concatenate([np.asarray(query, dtype=np.int64), extra])
                parts.append(_probes_of(scorer, chosen, gallery, outside))
    found = Probes(*(np.concatenate([getattr(part, side) for part in parts] or [[]]) for side in ("mated", "unmated")))
    if not found.mated.size or not found.unmated.size:
        raise InputError("open-set identification needs queries of identities in the gallery and of others")
    return found


def open_set_scores(test: Probes, validation: Probes, *, fpir: float = 1e-2) -> OpenSetScores:
    """TPIR of ``test`` at the threshold that gives ``fpir`` on ``validation``.

    Raises InputError if the searches of identities outside the gallery cannot support ``fpir`` in either.
    """
    what = "searches of identities outside the gallery, in "
    threshold = threshold_at(validation.unmated, fpir, what=what + "validation")
    check_support(fpir, len(test.unmated), what=what + "the test")
    return OpenSetScores(
        fpir=fpir,
        threshold=threshold,
        tpir=float(np.mean(test.mated >= threshold)),
        fpir_measured=float(np.mean(test.unmated >= threshold)),
        num_mated=len(test.mated),
        num_unmated=len(test.unmated),
    )


def _probes_of(scorer: SplitScorer, query: Ints, gallery: Ints, outside: Ints) -> Probes:
    gallery = gallery[~np.isin(scorer.identities(gallery), outside)]
    in_gallery = np.isin(scorer.identities(query), scorer.identities(gallery))
    if not len(gallery):
        return Probes(np.zeros(0), np.zeros(0))
    similarity = scorer.exact(query, gallery).astype(np.float64)
    same = scorer.identities(query)[:, None] == scorer.identities(gallery)
    return Probes(_first_place(similarity[in_gallery], same[in_gallery]), similarity[~in_gallery].max(axis=1))


def _first_place(similarity: Values, same: NDArray[np.bool_]) -> Values:
    """[Q] best score of the match, -inf if another identity's is as good."""
    own = np.where(same, similarity, -np.inf).max(axis=1)
    other = np.where(same, -np.inf, similarity).max(axis=1)
    return np.where(own > other, own, -np.inf)
