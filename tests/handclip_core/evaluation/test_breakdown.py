import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.breakdown import breakdown
from handclip_core.evaluation.protocol import GalleryKind, ProtocolScores, QueryScores, collect

AP = np.array([1.0, 0.5, 0.25, 0.2, np.nan, 1.0, 0.5, 0.5])
ROWS = np.array([0, 1, 2, 3, 4, 0, 2, 3])


def scores() -> ProtocolScores:
    person: NDArray[np.int64] = np.array([0, 0, 1, 2, 3])[ROWS]
    queries = QueryScores(
        draw=np.array([0, 0, 0, 0, 0, 1, 1, 1]),
        aspect=np.array([0, 0, 1, 1, 1, 0, 1, 1]),
        row=ROWS,
        identity=person,
        ap=AP,
        ap_trapezoid=AP,
        inp=AP,
        first_rank=np.nan_to_num(1 / AP).astype(np.int64),
    )
    return collect(queries, ("dorsal right", "palmar left"), gallery=GalleryKind.OWN, without_query=())


def manifest() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "aspect": ["dorsal right", "dorsal right", "palmar left", "palmar left", "palmar left"],
            "accessories": pd.array([0, 1, 0, None, 0], dtype="Int64"),
            "skin_tone": ["fair", "fair", "dark", "", "dark"],
            "gender": ["female", "female", "male", "male", "male"],
            "age": pd.array([18, 18, 30, 75, None], dtype="Int64"),
        }
    )


def test_groups_have_counts_and_means() -> None:
    groups = {(row.group, row.value): row for row in breakdown(scores(), manifest())}
    fair = groups["skin_tone", "fair"]
    assert (fair.num_identities, fair.num_images, fair.num_queries, fair.num_unmatched) == (1, 2, 3, 0)
    assert fair.map is not None
    assert fair.map.value == pytest.approx((1 + 0.5 + 1) / 3)
    assert fair.cmc1 is not None
    assert fair.cmc1.value == pytest.approx(2 / 3)
    dark = groups["skin_tone", "dark"]
    assert (dark.num_identities, dark.num_queries, dark.num_unmatched) == (2, 3, 1)
    assert dark.map is not None
    assert dark.map.value == pytest.approx((0.25 + 0.5) / 2)
    assert [value for group, value in groups if group == "accessories"] == ["no", "yes", "unknown"]
    assert [value for group, value in groups if group == "age_band"] == ["under 20", "30-39", "60 and over", "unknown"]
    assert [value for group, value in groups if group == "skin_tone"] == ["dark", "fair", "unknown"]
    assert groups["aspect", "palmar left"].num_queries == 5
    for group in ("aspect", "accessories", "skin_tone", "gender", "age_band"):
        assert sum(row.num_queries for (name, _), row in groups.items() if name == group) == 8


def test_a_group_without_a_match_is_shown_without_a_score() -> None:
    unknown = next(row for row in breakdown(scores(), manifest(), groups=["age_band"]) if row.value == "unknown")
    assert (unknown.num_queries, unknown.num_unmatched, unknown.map, unknown.cmc1) == (1, 1, None, None)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InputError, match="no column 'skin_tone'"):
        breakdown(scores(), manifest().drop(columns="skin_tone"))
    with pytest.raises(InputError, match="no column 'age'"):
        breakdown(scores(), manifest().drop(columns="age"), groups=["age_band"])
