"""The report's section on what the winner does where no gallery is searched: by class or direction, with images."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from handclip_core.data.manifest import Prepared
from handclip_core.evaluation.questions import Item
from handclip_core.evaluation.units import Confusions, Evaluation
from tune_jobs.reporting.charts import heat_map
from tune_jobs.reporting.page import Figure, Section, Strip, Table, percent
from tune_jobs.reporting.panels import cards, extremes
from tune_jobs.reporting.winner_sections import Winner, missing

MOST_CLASSES, MOST_PAIRS, PAIRS_SHOWN, IMAGES_SHOWN = 25, 10, 4, 8


def details(winner: Winner) -> Section:
    """The tables of the winner's evaluation; of classes also what is taken for what, of searches what is found."""
    title, found = "The winner in detail", winner.evaluation
    if found is None:
        return Section(title=title, missing=missing(winner))
    tables = [_table(f"{name}, validation", frame) for name, frame in found.tables.items()]
    lines = _kept(winner, found)
    if found.confusions is None:
        asked, data = winner.questions, winner.data
        strips = () if asked is None or data is None else tuple(extremes(asked, data))
        return Section(title=title, lines=lines, tables=tuple(tables), strips=strips)
    pairs = found.confusions.most(MOST_PAIRS)
    if pairs:
        tables.append(_pairs(found.confusions, pairs))
    return Section(
        title=title,
        lines=lines,
        tables=tuple(tables),
        figures=(_matrix(found.confusions),),
        strips=tuple(_strips(found.confusions, pairs[:PAIRS_SHOWN], winner.data)),
    )


def _kept(winner: Winner, found: Evaluation) -> tuple[str, ...]:
    """What its best unit was measured at beside its evaluation: how much of what CLIP could do is left."""
    best = winner.figures.get("best", {})
    metrics = winner.settings.task.metrics.every
    told = [metric for metric in metrics if metric.name in best and metric.name not in found.metrics]
    return tuple(f"{metric.label}: {percent(best[metric.name])}" for metric in told)


def _table(title: str, frame: pd.DataFrame) -> Table:
    """Fractions in percent, counts as they are."""
    texts = frame.map(_text)
    num_words = sum(not pd.api.types.is_numeric_dtype(frame[name]) for name in frame)
    return Table.of(title, {str(name): list(texts[name]) for name in texts}, num_words=num_words)


def _text(cell: object) -> str:
    return percent(cell) if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def _pairs(found: Confusions, pairs: Sequence[tuple[int, int]]) -> Table:
    columns = {
        "class": [found.names[truth] for truth, _ in pairs],
        "taken for": [found.names[answer] for _, answer in pairs],
        "images": [f"{found.counts[pair]:,}" for pair in pairs],
        "of all": [percent(found.counts[pair] / found.counts[pair[0]].sum()) for pair in pairs],
    }
    return Table.of("Most confused", columns, num_words=2)


def _matrix(found: Confusions) -> Figure:
    """Of many classes those with most errors."""
    wrong = found.counts - np.diag(found.counts.diagonal())
    errors = wrong.sum(axis=0) + wrong.sum(axis=1)
    shown = np.sort(np.argsort(-errors, kind="stable")[:MOST_CLASSES])
    names = [found.names[at] for at in shown]
    shares = 100 * found.counts / np.maximum(found.counts.sum(axis=1, keepdims=True), 1)
    part = "" if len(shown) == len(found.names) else f" The {MOST_CLASSES} of {len(found.names)} with most errors."
    caption = f"Percent of the images of a class (rows) that are taken for each class (columns).{part}"
    return heat_map(caption, names, names, shares[np.ix_(shown, shown)].tolist())


def _strips(found: Confusions, pairs: Sequence[tuple[int, int]], data: Prepared | None) -> list[Strip]:
    if data is None:
        return []
    strips = []
    for truth, answer in pairs:
        rows = found.shown_by(truth, answer)[:IMAGES_SHOWN]
        items = [Item(str(data.manifest["path"].iloc[row]), row, right=False) for row in rows]
        caption = f"{found.names[truth]}, taken for {found.names[answer]}:"
        strips.append(Strip(caption=caption, images=cards(items, data)))
    return strips
