"""What a metric is chosen by: how well it finds images of training identities that it was not fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.retrieval import retrieval_scores
from handclip_core.models.closed_form import Labels

Scores = NDArray[np.float32]
NUM_FOLDS = 3
MOST_IMAGES = 1500
"""Training images that the choice is made on, as it takes the cube of their number: of whole identities, but for those
that have a third of so many by themselves."""
MOST_TAKEN = 12
"""Vectors that are taken at most, each as often as it helps."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Indices of training images: those that a metric is fitted to, and ``held_out`` [m] ones of other identities."""

    known: NDArray[np.int64]
    held_out: NDArray[np.int64]


class HeldOut:
    """Thirds of the training identities, each held out once."""

    def __init__(self, labels: Labels, identities: Labels) -> None:
        """``labels`` [n] say which images are to be found by one another, ``identities`` [n] lie in one third each."""
        rng = np.random.default_rng(0)
        thirds: list[list[NDArray[np.int64]]] = [[] for _ in range(NUM_FOLDS)]
        names, counts = np.unique(identities, return_counts=True)
        left, most = MOST_IMAGES, MOST_IMAGES // NUM_FOLDS
        for number, place in enumerate(rng.permutation(len(names))):
            num = min(most, int(counts[place]))
            if num <= left:
                thirds[number % NUM_FOLDS].append(rng.permutation(np.flatnonzero(identities == names[place]))[:num])
                left -= num
        parts = [np.sort(np.concatenate([*third, np.array([], np.int64)])) for third in thirds]
        self.folds = tuple(
            Fold(np.sort(np.concatenate([*parts[:number], *parts[number + 1 :]])), part)
            for number, part in enumerate(parts)
        )
        self._labels = labels

    def quality(self, scores: Sequence[Scores]) -> float:
        """Mean average precision over folds of ``scores`` [m, m], larger for images more alike."""
        return float(np.mean([self._map(fold, found) for fold, found in zip(self.folds, scores, strict=True)]))

    def shares(self, scores: Sequence[Sequence[Scores]]) -> tuple[float, ...]:
        """Of vectors with ``scores`` a fold each, how much each counts in the sum that finds most; they sum to one.

        Greedy selection with replacement (Caruana 2004, doi 10.1145/1015330.1015432): the vector is added that helps
        most, again and again, until none does. If none helps at all, all count alike.
        """
        taken = [0] * len(scores)
        total = [np.zeros_like(one) for one in scores[0]]
        best = self.quality(total)
        for _ in range(MOST_TAKEN):
            sums = [[before + one for before, one in zip(total, found, strict=True)] for found in scores]
            qualities = [self.quality(found) for found in sums]
            chosen = int(np.argmax(qualities))
            if qualities[chosen] <= best:
                break
            taken[chosen], total, best = taken[chosen] + 1, sums[chosen], qualities[chosen]
        taken = taken if any(taken) else [1] * len(scores)
        return tuple(count / sum(taken) for count in taken)

    def _map(self, fold: Fold, scores: Scores) -> float:
        who = self._labels[fold.held_out]
        try:
            return retrieval_scores(scores, who, who, exclude=np.eye(len(who), dtype=bool)).map
        except InputError:  # no two images of one class
            return 0.0
