"""Verification and open-set identification: error rates of decisions at a threshold (ISO/IEC 19795-1:2021).

A comparison is accepted if its score is **at least** the threshold. Pairs share identities, so they are not
independent: error rates look surer than they are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.identities import Ids, identity_codes
from handclip_core.evaluation.similarity import as_tensor, cosine

Values = NDArray[np.float64]
Ints = NDArray[np.int64]
FARS = (1e-2, 1e-3, 1e-4)
SUPPORT = 3.0
"""Errors to expect before a rate can be spoken of: no error in 3 / rate trials shows, with 95 % confidence, a rate
below that (the rule of three)."""
SURE = 30.0
"""Errors to expect for a rate that is known to within 30 % with 90 % confidence (the rule of thirty)."""


SEEN = "the model was trained on the validation identities, so that they give no threshold"


@dataclass(frozen=True, eq=False)
class PairScores:
    """Scores of comparisons of one identity with himself (genuine [M]) and with others (impostor [N])."""

    genuine: NDArray[np.floating]
    impostor: NDArray[np.floating]

    def __post_init__(self) -> None:
        """Hold the scores in float64, in which thresholds are compared; raise InputError for none or for NaN."""
        for name in ("genuine", "impostor"):
            scores = real_values(getattr(self, name), what=f"{name} pairs")
            if not scores.size:
                raise InputError(f"there are no {name} pairs to verify")
            object.__setattr__(self, name, scores)


@dataclass(frozen=True, eq=False)
class ErrorCurve:
    """ROC and DET: false accept and true accept rates [K] at falling thresholds [K], from accepting nothing to all."""

    threshold: Values
    far: Values
    tar: Values

    @property
    def frr(self) -> Values:
        """False reject rates [K], the ordinate of a DET plot."""
        return 1 - self.tar


@dataclass(frozen=True)
class OperatingPoint:
    """True accept rate at a threshold that validation set for ``far``; ``far_measured`` is what it let through here.

    ``expected_errors`` is ``far`` times the impostor pairs of the smaller of both sets.
    """

    far: float
    threshold: float
    tar: float
    far_measured: float
    expected_errors: float

    @property
    def rough(self) -> bool:
        """Whether the false accept rate rests on fewer than 30 expected errors."""
        return self.expected_errors < SURE


@dataclass(frozen=True)
class Refusal:
    """A false accept rate that the data cannot support, and why."""

    far: float
    reason: str


@dataclass(frozen=True)
class VerificationScores:
    """Equal error rate, area under the ROC, d' and the operating points, with the rates that were refused."""

    eer: float
    auc: float
    d_prime: float
    points: tuple[OperatingPoint, ...]
    refused: tuple[Refusal, ...]
    num_genuine: int
    num_impostor: int


def pair_scores(
    embeddings: NDArray[Any] | Tensor,
    identities: Ids,
    *,
    groups: Ids | None = None,
    similarity: Callable[[Tensor, Tensor], Tensor] = cosine,
) -> PairScores:
    """Cosines of all unordered pairs of embeddings [N, D], no image with itself.

    With ``groups`` [N] (the aspects) only pairs within a group; a symmetric ``similarity`` takes the place of the
    cosine. Holds N x N values. Raises InputError if there is no genuine or no impostor pair.
    """
    (codes,) = identity_codes(identities, names=("identities",))
    same_group = np.zeros(len(codes), dtype=np.int64)
    if groups is not None:
        (same_group,) = identity_codes(groups, names=("groups",))
    if not len(codes) == len(same_group) == len(embeddings):
        raise InputError(f"{len(embeddings)} embeddings, {len(codes)} identities and {len(same_group)} groups")
    shown = as_tensor(embeddings)
    table = similarity(shown, shown).cpu().numpy()
    genuine, impostor = [], []
    for row in range(len(codes) - 1):
        scores = table[row, row + 1 :][same_group[row + 1 :] == same_group[row]]
        same = (codes[row + 1 :] == codes[row])[same_group[row + 1 :] == same_group[row]]
        genuine.append(scores[same])
        impostor.append(scores[~same])
    return PairScores(_flat(genuine), _flat(impostor))


def gallery_pair_scores(similarity: NDArray[Any], query_ids: Ids, gallery_ids: Ids) -> PairScores:
    """Scores of every query with every gallery entry, of a similarity [Q, G]; raises as :func:`pair_scores` does."""
    query, gallery = identity_codes(query_ids, gallery_ids, names=("query_ids", "gallery_ids"))
    if similarity.shape != (len(query), len(gallery)):
        raise InputError(
            f"similarity is {list(similarity.shape)} for {len(query)} query and {len(gallery)} gallery ids"
        )
    same = query[:, None] == gallery
    return PairScores(similarity[same].astype(np.float64), similarity[~same].astype(np.float64))


def error_curve(pairs: PairScores) -> ErrorCurve:
    """The exact curve, with one point for each distinct score and one, at infinity, that accepts nothing."""
    threshold = np.concatenate([[np.inf], np.unique(np.concatenate([pairs.genuine, pairs.impostor]))[::-1]])
    far, tar = _share_at_least(pairs.impostor, threshold), _share_at_least(pairs.genuine, threshold)
    return ErrorCurve(threshold, far, tar)


def det_points(pairs: PairScores, *, num: int = 101) -> ErrorCurve:
    """At most ``num`` points of the curve for plotting, evenly spaced in the logarithm of the false accept rate."""
    rates = np.geomspace(1 / len(pairs.impostor), 1, num)
    descending = np.sort(pairs.impostor)[::-1]
    accepted = np.unique(np.clip(np.round(rates * len(descending)).astype(np.int64), 1, len(descending)))
    threshold = np.unique(descending[accepted - 1])[::-1]
    far, tar = _share_at_least(pairs.impostor, threshold), _share_at_least(pairs.genuine, threshold)
    return ErrorCurve(threshold, far, tar)


def equal_error_rate(pairs: PairScores) -> float:
    """The rate at which false accept and false reject rates are equal, on straight lines between the curve's points."""
    curve = error_curve(pairs)
    gap = curve.far - curve.frr
    after = int(np.argmax(gap >= 0))
    step = gap[after] - gap[after - 1]
    share = -gap[after - 1] / step
    return float(curve.far[after - 1] + share * (curve.far[after] - curve.far[after - 1]))


def area_under_roc(pairs: PairScores) -> float:
    """Probability that a genuine pair scores above an impostor pair, equal scores counting half (Mann-Whitney)."""
    ordered = np.sort(pairs.impostor)
    below, up_to = (np.searchsorted(ordered, pairs.genuine, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(ordered)))


def d_prime(pairs: PairScores) -> float:
    """Distance of the two score distributions: difference of means over the root mean variance (Daugman 2000)."""
    difference = float(pairs.genuine.mean() - pairs.impostor.mean())
    spread = math.sqrt((float(pairs.genuine.var()) + float(pairs.impostor.var())) / 2)
    if spread == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / spread


def threshold_at(impostor: NDArray[Any], rate: float, *, what: str = "impostor pairs") -> float:
    """The lowest threshold that accepts at most the share ``rate`` of the ``impostor`` scores [N].

    Raises InputError if N is below 3 / rate: not even zero errors would then show that the rate is so low.
    """
    check_support(rate, len(impostor), what=what)
    descending = np.sort(impostor.astype(np.float64))[::-1]
    allowed = math.floor(rate * len(descending) + 1e-9)
    return float(np.nextafter(descending[allowed], np.inf)) if allowed < len(descending) else -math.inf


def check_support(rate: float, trials: int, *, what: str) -> None:
    """Raise InputError, with the reason, if ``trials`` are too few to speak of an error rate of ``rate``."""
    if not 0 < rate < 1:
        raise InputError(f"an error rate of {rate:g} was asked for; it needs to be between 0 and 1")
    if rate * trials < SUPPORT - 1e-9:
        needed = math.ceil(SUPPORT / rate - 1e-6)
        raise InputError(f"a rate of {rate:g} needs at least {needed} {what} (3 expected errors), there are {trials}")


def tar_at_far(test: PairScores, validation: PairScores, far: float) -> OperatingPoint:
    """True accept rate of ``test`` at the threshold that gives ``far`` on ``validation``.

    Raises InputError if the impostor pairs of either cannot support ``far``.
    """
    threshold = threshold_at(validation.impostor, far, what="impostor pairs in validation")
    check_support(far, len(test.impostor), what="impostor pairs in the test")
    return OperatingPoint(
        far=far,
        threshold=threshold,
        tar=float(np.mean(test.genuine >= threshold)),
        far_measured=float(np.mean(test.impostor >= threshold)),
        expected_errors=far * min(len(test.impostor), len(validation.impostor)),
    )


def verification_scores(
    test: PairScores, validation: PairScores | None, *, fars: Sequence[float] = FARS
) -> VerificationScores:
    """All figures of ``test`` with thresholds fixed on ``validation``; unsupported rates are listed with the reason.

    All of them are, if the model was trained on the people of validation, whose pairs are then None.
    """
    points: list[OperatingPoint] = []
    refused: list[Refusal] = []
    for far in fars:
        if validation is None:
            refused.append(Refusal(far, SEEN))
            continue
        try:
            points.append(tar_at_far(test, validation, far))
        except InputError as error:
            refused.append(Refusal(far, str(error)))
    return VerificationScores(
        eer=equal_error_rate(test),
        auc=area_under_roc(test),
        d_prime=d_prime(test),
        points=tuple(points),
        refused=tuple(refused),
        num_genuine=len(test.genuine),
        num_impostor=len(test.impostor),
    )


def real_values(scores: NDArray[Any] | Tensor, *, what: str) -> Values:
    """Scores as a flat float64 array; raises InputError for NaN."""
    array = scores.detach().double().cpu().numpy() if isinstance(scores, Tensor) else np.asarray(scores)
    values = array.astype(np.float64).ravel()
    if np.isnan(values).any():
        raise InputError(f"a score among the {what} is NaN")
    return values


def _flat(parts: list[NDArray[np.float32]]) -> Values:
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def _share_at_least(scores: NDArray[np.floating], threshold: Values) -> Values:
    """Share of the scores [N] that each threshold [K] accepts."""
    ordered = np.sort(scores)
    return np.asarray(1 - np.searchsorted(ordered, threshold, side="left") / len(ordered))
