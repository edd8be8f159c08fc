"""Questions and answers as rows of small images and words."""

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pictures

from handclip_core.data.sources import PreparedData
from handclip_core.evaluation.questions import Item, Panel, Questions
from tune_jobs.reporting import panels
from tune_jobs.reporting.panels import SIDE_PX, cards, data_here, extremes, no_data, small_image, strip, thumbnail
from tune_jobs.storage.location import BucketLocation

RED = (200, 30, 30)


@pytest.fixture
def data(tmp_path: Path) -> Any:
    """A red image of 400 x 200 pixels, one that is moved away, and one that is none."""
    Pictures.new("RGB", (400, 200), RED).save(tmp_path / "red.png")
    (tmp_path / "text.png").write_text("no image")
    return SimpleNamespace(
        root=tmp_path, manifest=pd.DataFrame({"path": ["red.png", "gone.png", "text.png"]}), folder=tmp_path
    )


def test_an_image_is_made_small_in_its_own_shape_and_never_larger(data: Any) -> None:
    small = small_image(data, 0, side_px=96)
    assert small is not None
    assert (small.size, small.getpixel((48, 24))) == ((96, 48), RED)
    whole = small_image(data, 0, side_px=1000)
    assert whole is not None
    assert whole.size == (400, 200)


def test_what_cannot_be_read_leaves_its_caption(data: Any) -> None:
    assert [small_image(data, row, side_px=96) for row in (1, 2)] == [None, None]
    assert [thumbnail(data, row) for row in (1, 2)] == ["data:,"] * 2


def test_a_page_holds_the_image_itself(data: Any) -> None:
    kind, _, coded = thumbnail(data, 0).partition(",")
    assert kind == "data:image/jpeg;base64"
    image = Pictures.open(io.BytesIO(base64.b64decode(coded)))
    assert (image.format, max(image.size)) == ("JPEG", SIDE_PX)
    found = image.convert("RGB").getpixel((48, 24))
    assert np.abs(np.array(found) - RED).max() < 12


def test_words_have_no_image_and_answers_say_whether_they_are_right(data: Any) -> None:
    found = cards([Item("anna", right=True), Item("ben", right=False), Item("a hand", 1)], data)
    assert [(card.caption, card.mark, card.source) for card in found] == [
        ("anna", "right", ""),
        ("ben", "wrong", ""),
        ("a hand", "", "data:,"),
    ]


@pytest.mark.parametrize(("text", "asked"), [("anna", "query: anna"), ("", "query")])
def test_the_question_stands_before_its_answers(data: Any, text: str, asked: str) -> None:
    found = strip(Panel(Item(text), (Item("anna", right=True), Item("ben")), "found"), "Why:", data)
    assert found.caption == "Why:"
    assert [card.caption for card in found.images] == [asked, "anna", "ben"]


def of_quality(*quality: float, parts: dict[str, range] | None = None) -> Questions:
    """Questions that are called by their places."""
    return Questions(
        right=np.array(quality) > 0,
        quality=np.array(quality),
        panel=lambda at: Panel(Item(str(at)), (), ""),
        parts=parts or {"images": range(len(quality))},
    )


def chosen(questions: Questions, data: Any) -> list[tuple[str, str]]:
    return [(one.caption, one.images[0].caption) for one in extremes(questions, data)]


def test_the_two_worst_the_median_and_the_best_are_shown(data: Any) -> None:
    assert chosen(of_quality(0.5, 0.9, 0.1, 0.7, 0.1), data) == [
        ("Worst query, average precision 10.00:", "query: 2"),
        ("Worst query, average precision 10.00:", "query: 4"),
        ("Median query, average precision 50.00:", "query: 0"),
        ("Best query, average precision 90.00:", "query: 1"),
    ]


def test_each_kind_of_question_has_its_own_and_says_which(data: Any) -> None:
    parts = {"by image": range(2), "by text": range(2, 5), "by neither": range(5, 5)}
    found = chosen(of_quality(0.2, 0.4, 0.9, 0.3, 0.6, parts=parts), data)
    assert [name for _, name in found] == [f"query: {at}" for at in (0, 1, 3, 4, 2)]
    assert found[0][0] == "By image: worst query, average precision 20.00:"
    assert found[1][0] == "By image: best query, average precision 40.00:"
    assert found[3][0] == "By text: median query, average precision 60.00:"
    assert found[-1][0] == "By text: best query, average precision 90.00:"
    assert [caption for caption, _ in chosen(of_quality(0.5), data)] == ["Best query, average precision 50.00:"]


def test_data_that_are_elsewhere_are_none_and_the_report_says_what_to_run_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_here(PreparedData(source="prepared", folder=tmp_path / "elsewhere")) is None
    monkeypatch.setattr(panels, "program", lambda name: f"handclip {name}")
    bucket = BucketLocation("s3://hands/runs?endpoint_override=http://x:1")
    assert no_data(bucket / "my sweep").endswith(
        "with handclip review 'my sweep' --storage 's3://hands/runs?endpoint_override=http://x:1'"
    )
