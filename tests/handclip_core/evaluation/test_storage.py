import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from handclip_core.data.manifest import GallerySplit
from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import compare_paired
from handclip_core.evaluation.protocol import ProtocolScores, QueryScores, score_gallery_splits
from handclip_core.evaluation.storage import load_scores, save_scores, summary


def scored() -> ProtocolScores:
    rng = np.random.default_rng(0)
    draws = [
        GallerySplit(gallery={"a": (0, 3), "b": (6,), "c": (8,)}, query={"a": (1, 2, 4, 5), "b": (7,), "c": ()}),
        GallerySplit(gallery={"a": (1, 4), "b": (7,), "c": (8,)}, query={"a": (0, 2, 3, 5), "b": (6,), "c": ()}),
    ]
    people = ["x"] * 3 + ["y"] * 3 + ["x"] * 3
    return score_gallery_splits(rng.standard_normal((9, 4)), np.arange(9), draws, people)


def test_scores_come_back_as_they_were(tmp_path: Path) -> None:
    scores = scored()
    save_scores(tmp_path / "deep" / "scores.npz", scores)
    again = load_scores(tmp_path / "deep" / "scores.npz")
    assert (again.overall, again.per_aspect, again.gallery) == (scores.overall, scores.per_aspect, scores.gallery)
    assert again.without_query == scores.without_query == ("c",)
    for name in QueryScores.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again.queries, name), getattr(scores.queries, name))
    assert compare_paired(scores, again).difference == 0
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["scores.npz"]


def test_the_summary_is_json() -> None:
    scores = scored()
    stored = json.loads(json.dumps(summary(scores), allow_nan=False))
    assert stored["overall"]["map"] == dataclasses.asdict(scores.overall.map)
    assert stored["gallery"] == "all"
    assert np.array(stored["per_draw"]["map"]).mean() == pytest.approx(stored["overall"]["map"]["mean"])
    assert stored["num_queries"] == 10


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        load_scores(tmp_path / "none.npz")
    text = tmp_path / "text.npz"
    text.write_text("not an archive")
    with pytest.raises(InputError, match=r"text\.npz: not a file of scores"):
        load_scores(text)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz: not a file of scores"):
        load_scores(tmp_path / "other.npz")
    save_scores(tmp_path / "cut.npz", scored())
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.npz: not a file of scores"):
        load_scores(tmp_path / "cut.npz")
