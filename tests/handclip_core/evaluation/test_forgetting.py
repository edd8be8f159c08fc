from typing import Any

import numpy as np
import pytest

from handclip_core.errors import InputError
from handclip_core.evaluation.forgetting import AspectSequence, sequential_scores

MATRIX = [
    [0.50, 0.40, 0.30],
    [0.90, 0.45, 0.35],
    [0.80, 0.85, 0.50],
    [0.70, 0.95, 0.75],
]


def test_every_figure_by_hand() -> None:
    scores = sequential_scores(MATRIX, joint=[0.92, 0.90, 0.70])
    assert scores.average == pytest.approx((0.70 + 0.95 + 0.75) / 3)
    assert scores.backward_transfer == pytest.approx(((0.70 - 0.90) + (0.95 - 0.85)) / 2)
    assert scores.forward_transfer == pytest.approx(((0.45 - 0.40) + (0.50 - 0.30)) / 2)
    assert scores.forgetting == pytest.approx(((0.90 - 0.70) + (0.85 - 0.95)) / 2)
    assert scores.intransigence == pytest.approx(((0.92 - 0.90) + (0.90 - 0.85) + (0.70 - 0.75)) / 3)


def test_the_best_before_the_last_phase_counts_for_forgetting() -> None:
    late_best = np.array(MATRIX)
    late_best[2, 0] = 0.99
    assert sequential_scores(late_best).forgetting == pytest.approx(((0.99 - 0.70) + (0.85 - 0.95)) / 2)


def test_what_was_never_learned_is_not_forgotten() -> None:
    zero_shot_best = np.array(MATRIX)
    zero_shot_best[0, 0] = 0.99
    assert sequential_scores(zero_shot_best).forgetting == sequential_scores(MATRIX).forgetting


def test_one_aspect_has_only_an_average() -> None:
    scores = sequential_scores([[0.2], [0.8]])
    assert scores.average == 0.8
    assert scores.backward_transfer is scores.forward_transfer is scores.forgetting is scores.intransigence is None


@pytest.mark.parametrize(
    ("matrix", "joint", "message"),
    [
        ([[0.1, 0.2], [0.3, 0.4]], None, "T aspects need T \\+ 1 rows"),
        ([0.1], None, "T aspects need T \\+ 1 rows"),
        ([[0.1, 0.2], [0.3]], None, "differ in length"),
        ([[0.1], [float("nan")]], None, "not finite"),
        ([[0.1], [0.2]], [0.3, 0.4], "joint training has 2 scores, the matrix 1 aspects"),
    ],
)
def test_other_shapes_are_refused(matrix: Any, joint: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sequential_scores(matrix, joint=joint)


def test_a_sequence_tells_its_figures_once_it_is_whole() -> None:
    rows = [[0.5, 0.4], [0.7, 0.45], [0.6, 0.8]]
    whole, half = AspectSequence(("a", "b"), rows), AspectSequence(("a", "b"), rows[:2])
    assert whole.values()["forgetting"] == pytest.approx(0.1)
    assert "forgetting 0.1000" in whole.text()
    assert half.values() == {"aspects": ["a", "b"], "map_after_phase": rows[:2]}
    assert "after b" not in half.text()
