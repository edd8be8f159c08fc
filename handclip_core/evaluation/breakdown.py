"""Scores by aspect and by what the manifest says of the identity, with counts and intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import Estimate, mean_estimate
from handclip_core.evaluation.protocol import ProtocolScores

GROUPS = ("aspect", "accessories", "skin_tone", "gender", "age_band")
AGE_EDGES = (0, 20, 30, 40, 50, 60, 200)
UNKNOWN = "unknown"


@dataclass(frozen=True)
class GroupScores:
    """Scores of the queries that share one ``value`` of a ``group``, all gallery splits and aspects together.

    ``num_images`` are different images, ``num_queries`` searches (an image is searched in many gallery splits).
    """

    group: str
    value: str
    num_identities: int
    num_images: int
    num_queries: int
    num_unmatched: int
    map: Estimate | None
    cmc1: Estimate | None


def breakdown(
    scores: ProtocolScores, manifest: pd.DataFrame, *, groups: Sequence[str] = GROUPS, seed: int = 0
) -> list[GroupScores]:
    """Scores by each of ``groups``: columns of the manifest, or ``age_band``; unknown values are a group too.

    Figures are means over queries and hence differ from the mean over aspects; they are None if no query has a
    match. Raises InputError for a column that the manifest lacks.
    """
    found = []
    for group in groups:
        values = _values(manifest, group)[scores.queries.row]
        for value in sorted(set(values.tolist()), key=_place):
            found.append(_group(scores, group, value, values == value, seed))
    return found


def _group(scores: ProtocolScores, group: str, value: str, mask: NDArray[np.bool_], seed: int) -> GroupScores:
    queries = scores.queries
    matched = bool((queries.first_rank[mask] > 0).any())
    return GroupScores(
        group=group,
        value=value,
        num_identities=len(np.unique(queries.identity[mask])),
        num_images=len(np.unique(queries.row[mask])),
        num_queries=int(mask.sum()),
        num_unmatched=int((queries.first_rank[mask] == 0).sum()),
        map=mean_estimate(queries.metric("map")[mask], queries.identity[mask], seed=seed) if matched else None,
        cmc1=mean_estimate(queries.metric("cmc1")[mask], queries.identity[mask], seed=seed) if matched else None,
    )


def _values(manifest: pd.DataFrame, group: str) -> NDArray[Any]:
    """The value of every manifest row [N] as text."""
    column = "age" if group == "age_band" else group
    if column not in manifest.columns:
        raise InputError(f"the manifest has no column '{column}' to break scores down by")
    if group == "age_band":
        return np.array([_age_band(age) for age in pd.to_numeric(manifest["age"], errors="coerce").tolist()])
    return np.array([_text(value) for value in manifest[column].tolist()])


def _text(value: Any) -> str:
    if value is None or value is pd.NA or value != value or not str(value).strip():
        return UNKNOWN
    if isinstance(value, (bool, int, float, np.integer, np.floating, np.bool_)):
        return {0: "no", 1: "yes"}.get(int(value), str(value))
    return str(value)


def _age_band(age: Any) -> str:
    if age is None or age is pd.NA or not AGE_EDGES[0] <= age < AGE_EDGES[-1]:
        return UNKNOWN
    upper = next(edge for edge in AGE_EDGES if age < edge)
    lower = AGE_EDGES[AGE_EDGES.index(upper) - 1]
    if upper == AGE_EDGES[1]:
        return f"under {upper}"
    return f"{lower} and over" if upper == AGE_EDGES[-1] else f"{lower}-{upper - 1}"


def _place(value: str) -> tuple[bool, bool, str]:
    """Unknown last, 'under 20' first."""
    return value == UNKNOWN, not value.startswith("under"), value
