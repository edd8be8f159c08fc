"""What learning aspects one after another costs and brings, from the matrix of scores after each phase.

``R`` [T + 1, T] holds in row i, column j the score on aspect j after phase i; row 0 is zero-shot, and aspects stand in
the order in which they were learned, so that R[j + 1, j] is an aspect right after its own phase (columns from 0).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handclip_core.errors import InputError


@dataclass(frozen=True)
class SequentialScores:
    """Figures of one sequence; None if they need more aspects than one, or the joint training that was not given.

    ``average``: mean over aspects after the last phase. ``backward_transfer``: mean change of the earlier aspects since
    their own phase. ``forward_transfer``: mean gain over zero-shot of an aspect right before its own phase (Lopez-Paz
    2017, arXiv 1706.08840, with zero-shot for the random start). ``forgetting``: mean drop of the earlier
    aspects from their best after any earlier phase (Chaudhry 2018, arXiv 1801.10112). ``intransigence``: mean
    of joint training minus the aspect right after its own phase (ibid.); negative if sequences do better.
    """

    average: float
    backward_transfer: float | None
    forward_transfer: float | None
    forgetting: float | None
    intransigence: float | None


def sequential_scores(
    matrix: Sequence[Sequence[float]] | NDArray[np.floating],
    *,
    joint: Sequence[float] | NDArray[np.floating] | None = None,
) -> SequentialScores:
    """Figures of the matrix R [T + 1, T]; ``joint`` [T] is the score of joint training on each aspect.

    Raises InputError for another shape and for scores that are not finite.
    """
    try:
        scores = np.asarray(matrix, dtype=np.float64)
    except ValueError:
        raise InputError("the rows of the matrix of sequential scores differ in length") from None
    if scores.ndim != 2 or scores.shape[1] < 1 or scores.shape[0] != scores.shape[1] + 1:
        raise InputError(f"the matrix is {list(scores.shape)}; T aspects need T + 1 rows (zero-shot first), T columns")
    num = scores.shape[1]
    reference = None if joint is None else np.asarray(joint, dtype=np.float64)
    if reference is not None and reference.shape != (num,):
        raise InputError(f"joint training has {reference.size} scores, the matrix {num} aspects")
    if not np.isfinite(scores).all() or (reference is not None and not np.isfinite(reference).all()):
        raise InputError("a sequential score is not finite: each aspect needs a score after each phase")
    own, last = np.diagonal(scores[1:]), scores[num]
    several = num > 1
    return SequentialScores(
        average=float(last.mean()),
        backward_transfer=float((last - own)[:-1].mean()) if several else None,
        forward_transfer=float((np.diagonal(scores) - scores[0])[1:].mean()) if several else None,
        forgetting=float((scores[1:num].max(axis=0) - last)[:-1].mean()) if several else None,
        intransigence=None if reference is None else float((reference - own).mean()),
    )


@dataclass(frozen=True)
class AspectSequence:
    """The forgetting matrix of a run: ``rows`` [up to T + 1, T] of the ``aspects`` [T] in the order of learning.

    A run that was stopped early has fewer rows.
    """

    aspects: tuple[str, ...]
    rows: Sequence[Sequence[float]]

    @property
    def scores(self) -> SequentialScores | None:
        """The figures of the whole sequence; None if it was stopped early or an aspect has no query."""
        whole = len(self.rows) == len(self.aspects) + 1
        return sequential_scores(self.rows) if whole and np.isfinite(np.asarray(self.rows)).all() else None

    def values(self) -> dict[str, Any]:
        """Matrix and figures as plain values for JSON."""
        figures = self.scores
        return {
            "aspects": list(self.aspects),
            "map_after_phase": [list(row) for row in self.rows],
            **(asdict(figures) if figures else {}),
        }

    def text(self) -> str:
        """The matrix as a table for a terminal."""
        names = ["zero-shot", *(f"after {aspect}" for aspect in self.aspects)]
        head = f"{'validation mAP':<20}" + "".join(f"{aspect:>14}" for aspect in self.aspects)
        lines = [
            f"{name:<20}" + "".join(f"{value:>14.4f}" for value in row)
            for name, row in zip(names, self.rows, strict=False)
        ]
        figures = self.scores
        closing = (
            ""
            if figures is None or figures.forgetting is None
            else (
                f"\nforgetting {figures.forgetting:.4f}, backward transfer {figures.backward_transfer:+.4f}, "
                f"forward transfer {figures.forward_transfer:+.4f}"
            )
        )
        return "\n".join([head, *lines]) + closing
