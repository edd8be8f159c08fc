"""Figures of the report as plotly's traces: strategies keep their colour and sign in all of them, lines are joined."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune_jobs.reporting.page import Figure

COLOURS = ("#1f83c4", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#9a8c00", "#8c6bb1")
"""Told apart with any colour vision, on white and on black (Okabe and Ito; yellow and black replaced)."""
SIGNS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down", "pentagon", "hexagram")
RAMP = ((0.0, "#fde725"), (0.25, "#5ec962"), (0.5, "#21918c"), (0.75, "#3b528b"), (1.0, "#440154"))
"""Viridis, reversed."""
Points = Sequence[tuple[float, float, str]]
Curve = Sequence[tuple[float, float]]
Trace = dict[str, Any]


class Palette:
    """The colour and the sign of each of ``names``."""

    def __init__(self, names: Sequence[str]) -> None:
        self._place = {name: at for at, name in enumerate(names)}

    def colour(self, name: str) -> str:
        """Its colour."""
        return COLOURS[self._place[name] % len(COLOURS)]

    def sign(self, name: str) -> str:
        """Its sign."""
        return SIGNS[self._place[name] % len(SIGNS)]


def axes(x: str, y: str, **more: Any) -> dict[str, Any]:
    """A layout with titles."""
    return {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}, **more}


def vertical(at: float, dash: str) -> Trace:
    """A line from below to above, as one of a layout's shapes."""
    style = {"dash": dash, "width": 1, "color": "#888"}
    return {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": style}


def scatter(name: str, mode: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> Trace:
    """Dots, a line or both, as ``mode`` says, through x and y."""
    return {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y, **more}


def points(name: str, found: Points, palette: Palette) -> Trace:
    """Dots (x, y, text) of a strategy."""
    return scatter(
        name,
        "markers",
        [x for x, _, _ in found],
        [y for _, y, _ in found],
        text=[text for _, _, text in found],
        hovertemplate="%{text}<br>%{x}, %{y:.2f}<extra></extra>",
        marker={"color": palette.colour(name), "symbol": palette.sign(name), "size": 8},
    )


def line(name: str, curve: Curve, colour: str, **more: Any) -> Trace:
    """One line."""
    style = {"color": colour, "width": 2}
    return scatter(name, "lines", [x for x, _ in curve], [y for _, y in curve], line=style) | more


def many_lines(name: str, curves: Mapping[str, Curve], palette: Palette) -> Trace:
    """Lines of a strategy as one trace, each with a text of its own and a gap behind it."""
    # One trace a strategy: the legend hides all its lines at once, and hundreds of traces would be slow.
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for label, curve in curves.items():
        x += [*(at for at, _ in curve), None]
        y += [*(value for _, value in curve), None]
        text += [label] * (len(curve) + 1)
    return scatter(
        name,
        "lines+markers",
        x,
        y,
        text=text,
        hovertemplate="%{text}<br>unit %{x}: %{y:.2f}<extra></extra>",
        line={"color": palette.colour(name), "width": 1},
        marker={"symbol": palette.sign(name), "size": 5},
        opacity=0.85,
    )


def band(name: str, x: NDArray[Any], y: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> list[Trace]:
    """A line with an interval around it."""
    around = [*x.tolist(), *x.tolist()[::-1]], [*high.tolist(), *low.tolist()[::-1]]
    shade = {"fill": "toself", "fillcolor": "rgba(31,131,196,.25)", "hoverinfo": "skip"}
    curve = list(zip(x.tolist(), y.tolist(), strict=True))
    return [scatter("95 %", "none", *around, **shade), line(name, curve, COLOURS[0])]


def intervals(
    caption: str,
    rows: Sequence[tuple[str, float, float, float]],
    dots: Mapping[str, Mapping[str, Sequence[float]]],
    x: str,
) -> Figure:
    """A row for each (name, value, low, high) from above to below, and ``dots`` by legend and by name."""
    reach = {
        "array": [high - value for _, value, _, high in rows],
        "arrayminus": [value - low for _, value, low, _ in rows],
    }
    bars = scatter(
        "mean, 95 %",
        "markers",
        [value for _, value, _, _ in rows],
        [name for name, *_ in rows],
        error_x={"type": "data", "symmetric": False, **reach, "thickness": 3},
        marker={"color": COLOURS[0], "size": 9},
    )
    signs = {"seed": ("line-ns-open", COLOURS[2]), "sweep, optimistic": ("circle-open", COLOURS[3])}
    others = [
        scatter(
            legend,
            "markers",
            [value for values in by_name.values() for value in values],
            [name for name, values in by_name.items() for _ in values],
            marker={"symbol": signs[legend][0], "color": signs[legend][1], "size": 9, "line": {"width": 2}},
        )
        for legend, by_name in dots.items()
        if any(by_name.values())
    ]
    layout = {"xaxis": {"title": {"text": x}}, "yaxis": {"autorange": "reversed", "type": "category"}}
    return Figure(caption=caption, data=(bars, *others), layout=layout | {"height": 130 + 30 * len(rows)})


def heat_map(caption: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> Figure:
    """A matrix of figures with its values written into it."""
    trace = {
        "type": "heatmap",
        "x": list(columns),
        "y": list(rows),
        "z": [list(row) for row in values],
        "texttemplate": "%{z:.1f}",
        "colorscale": [list(step) for step in RAMP],
    }
    layout = {"yaxis": {"autorange": "reversed", "type": "category"}, "xaxis": {"type": "category"}}
    return Figure(caption=caption, data=(trace,), layout=layout | {"height": 150 + 34 * len(rows)})


def parallel(caption: str, names: Sequence[str], rows: Sequence[Sequence[Any]], scores: Sequence[float]) -> Figure:
    """A line a trial through its values, [trials, names], scaled axis by axis; a colour for each fifth of scores."""
    columns = [_scaled([row[at] for row in rows]) for at in range(len(names))]
    # Ranks from the worst on, cut into fifths.
    place = np.argsort(np.argsort(scores)) * 5 // max(1, len(scores))
    traces = []
    for fifth, (label, (_, colour)) in enumerate(
        zip(("worst fifth", "second", "third", "fourth", "best fifth"), RAMP, strict=True)
    ):
        chosen = np.flatnonzero(place == fifth).tolist()
        traces.append(
            scatter(
                label,
                "lines+markers",
                [name for _ in chosen for name in (*names, None)],
                [value for at in chosen for value in (*(column[at] for column in columns), None)],
                text=[f"{text}, {scores[at]:.2f}" for at in chosen for text in (*map(short, rows[at]), "")],
                hovertemplate="%{x}: %{text}<extra></extra>",
                line={"color": colour, "width": 1 + fifth / 2},
                marker={"size": 4},
            )
        )
    layout = {
        "yaxis": {"showticklabels": False, "title": {"text": "low to high"}},
        "xaxis": {"type": "category"},
        # Below the axis, as elsewhere on narrow screens, it would lie on the slanted names.
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return Figure(caption=caption, data=tuple(traces), layout=layout)


def _scaled(values: Sequence[Any]) -> list[float | None]:
    """Values from 0 to 1: numbers by size, or by their logarithms if they span more than two decades."""
    known = [value for value in values if value is not None]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    order = {value: at for at, value in enumerate(sorted(set(map(str, known))))}
    places = [None if value is None else float(value) if numbers else float(order[str(value)]) for value in values]
    found = [place for place in places if place is not None]
    if numbers and found and min(found) > 0 and max(found) / min(found) > 100:
        places = [None if place is None else float(np.log(place)) for place in places]
        found = [place for place in places if place is not None]
    low, high = (min(found), max(found)) if found else (0.0, 0.0)
    return [None if place is None else 0.5 if high == low else (place - low) / (high - low) for place in places]


def short(value: object) -> str:
    """A value of a hyperparameter in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
