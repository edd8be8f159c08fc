"""Figures as plotly's traces, checked by hand."""

import math

import numpy as np
import pytest

from tune_jobs.reporting.charts import (
    COLOURS,
    SIGNS,
    Palette,
    axes,
    band,
    heat_map,
    intervals,
    line,
    many_lines,
    parallel,
    points,
    short,
    vertical,
)

NAMES = tuple(f"s{at}" for at in range(40))


def test_each_of_many_strategies_has_a_look_of_its_own_that_does_not_depend_on_the_figure() -> None:
    palette = Palette(NAMES)
    looks = [(palette.colour(name), palette.sign(name)) for name in NAMES]
    assert len(set(looks)) == math.lcm(len(COLOURS), len(SIGNS)) == len(NAMES)
    assert points("s3", [], palette)["marker"]["color"] == many_lines("s3", {}, palette)["line"]["color"] == looks[3][0]
    with pytest.raises(KeyError):
        palette.colour("unknown")


def test_dots_and_lines_keep_their_places() -> None:
    dots = points("s0", [(1.0, 2.0, "a"), (3.0, 4.0, "b")], Palette(NAMES))
    assert (dots["x"], dots["y"], dots["text"], dots["mode"]) == ([1.0, 3.0], [2.0, 4.0], ["a", "b"], "markers")
    drawn = line("best", [(0, 1), (2, 3)], "#123456", line={"dash": "dot"})
    assert (drawn["x"], drawn["y"], drawn["mode"]) == ([0, 2], [1, 3], "lines")
    assert drawn["line"] == {"dash": "dot"}, "what is given takes the place of the style"


def test_lines_of_a_strategy_are_one_trace_with_gaps_between_them() -> None:
    found = many_lines("s0", {"trial 1": [(1, 10), (2, 20)], "trial 2": [(1, 5)]}, Palette(NAMES))
    assert found["x"] == [1, 2, None, 1, None]
    assert found["y"] == [10, 20, None, 5, None]
    assert found["text"] == ["trial 1"] * 3 + ["trial 2"] * 2


def test_a_band_goes_there_above_and_back_below_its_line() -> None:
    around, curve = band("roc", *map(np.array, ([0, 1], [5, 6], [4, 5], [7, 8])))
    assert (around["x"], around["y"]) == ([0, 1, 1, 0], [7, 8, 5, 4])
    assert (curve["name"], curve["x"], curve["y"]) == ("roc", [0, 1], [5, 6])


def test_intervals_reach_from_the_mean_to_their_ends_and_rows_stand_from_above_to_below() -> None:
    rows = [("first", 0.6, 0.5, 0.9), ("second", 0.4, 0.3, 0.5)]
    dots: dict[str, dict[str, list[float]]] = {
        "seed": {"first": [0.55, 0.65], "second": [0.4]},
        "sweep, optimistic": {"first": [], "second": []},
    }
    figure = intervals("what", rows, dots, "mAP")
    bars, seeds = figure.data
    assert (bars["x"], bars["y"]) == ([0.6, 0.4], ["first", "second"])
    assert bars["error_x"]["array"] == pytest.approx([0.3, 0.1])
    assert bars["error_x"]["arrayminus"] == pytest.approx([0.1, 0.1])
    assert (seeds["name"], seeds["x"], seeds["y"]) == ("seed", [0.55, 0.65, 0.4], ["first", "first", "second"])
    assert figure.layout["yaxis"]["autorange"] == "reversed"
    assert figure.layout["xaxis"] == {"title": {"text": "mAP"}}
    assert figure.layout["height"] - intervals("what", rows[:1], {}, "mAP").layout["height"] == 30


def test_a_matrix_has_its_first_row_above() -> None:
    figure = heat_map("forgetting", ["a", "b"], ["x", "y", "z"], [[1, 2, 3], [4, 5, 6]])
    (trace,) = figure.data
    assert (trace["y"], trace["x"], trace["z"]) == (["a", "b"], ["x", "y", "z"], [[1, 2, 3], [4, 5, 6]])
    assert figure.layout["yaxis"]["autorange"] == "reversed"
    assert trace["colorscale"][0] == [0.0, "#fde725"]


def column(*values: object) -> list[float | None]:
    """Where the values of a hyperparameter stand on its axis."""
    scores = list(range(len(values)))
    traces = parallel("how", ["p"], [[value] for value in values], scores).data
    drawn = [point for trace in traces for point in zip(trace["x"], trace["text"], trace["y"], strict=True)]
    places = {text.rsplit(", ", 1)[1]: y for x, text, y in drawn if x is not None}
    return [places[f"{score:.2f}"] for score in scores]


def test_numbers_stand_by_size_and_by_logarithms_beyond_two_decades() -> None:
    assert column(1, 2, 5) == [0.0, 0.25, 1.0]
    assert column(1.0, 10.0, 100.0) == [0.0, pytest.approx(9 / 99), 1.0]
    assert column(1e-5, 1e-3, 1e-1) == pytest.approx([0.0, 0.5, 1.0])
    assert column(0.0, 500.0, 1000.0) == [0.0, 0.5, 1.0], "zero has no logarithm"


def test_words_stand_in_the_order_of_the_alphabet_and_one_value_in_the_middle() -> None:
    assert column("cls", "avg", "max") == [0.5, 0.0, 1.0]
    assert column(True, False) == [1.0, 0.0]
    assert column(3, 3) == [0.5, 0.5]
    assert column("a", "a") == [0.5, 0.5]


def test_a_value_that_a_trial_does_not_have_leaves_a_gap() -> None:
    assert column(2, None, 4) == [0.0, None, 1.0]
    assert column(None, None) == [None, None]


def test_fifths_go_from_the_worst_to_the_best_and_every_line_ends_in_a_gap() -> None:
    scores = [0.5, 0.1, 0.4, 0.2, 0.3, 0.9, 0.6, 0.7, 0.8, 0.0]
    figure = parallel("how", ["p", "q"], [[at, 1] for at in range(10)], scores)
    assert [trace["name"] for trace in figure.data] == ["worst fifth", "second", "third", "fourth", "best fifth"]
    worst, best = figure.data[0], figure.data[-1]
    assert worst["x"] == best["x"] == ["p", "q", None] * 2
    assert worst["text"][0::3] + worst["text"][1::3] == ["1, 0.10", "9, 0.00", "1, 0.10", "1, 0.00"]
    assert best["text"][0::3] == ["5, 0.90", "8, 0.80"]
    assert best["y"] == [pytest.approx(5 / 9), 0.5, None, pytest.approx(8 / 9), 0.5, None]


def test_of_few_trials_each_is_in_one_fifth() -> None:
    figure = parallel("how", ["p"], [[1], [2], [3]], [0.3, 0.1, 0.2])
    assert sum(len(trace["x"]) for trace in figure.data) == 3 * 2
    assert all(trace["x"] == [] for trace in parallel("how", ["p"], [], []).data)


def test_axes_and_marks_are_a_layouts() -> None:
    layout = axes("units", "mAP", height=300)
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"], layout["height"]) == (
        "units",
        "mAP",
        300,
    )
    mark = vertical(4, "dot")
    assert (mark["x0"], mark["x1"], mark["yref"], mark["line"]["dash"]) == (4, 4, "paper", "dot")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00012345, "0.000123"), (1234.5, "1.23e+03"), (12345, "12345"), ("cls", "cls"), (True, "True")],
)
def test_floats_are_told_in_three_digits(value: object, text: str) -> None:
    assert short(value) == text
