"""What the report shows of classifiers and of searches by captions."""

import json
from pathlib import Path

import numpy as np
import pytest

from handclip_core.data.sources import open_data
from handclip_core.paths import cache_root
from handclip_core.tasks.captions.scores import Pairing, score_captions
from handclip_core.tasks.captions.table import read_pairs
from handclip_core.tasks.captions.task import Captions
from handclip_core.tasks.classes.scores import ClassScores
from handclip_core.tasks.classes.task import Classes
from tests.conftest import TINY_DATA
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.details import MOST_CLASSES, details
from tune_jobs.reporting.winner_sections import Winner

NAMES = ("palm", "back", "fist")


def winner(folder: Path, truth: list[int], answer: list[int], names: tuple[str, ...] = NAMES) -> Winner:
    rows = np.arange(len(truth))
    probabilities = np.eye(len(names))[answer]
    scores = ClassScores(names, rows, np.array(truth), rows, probabilities)
    Classes().save(folder / "scores.npz", scores)
    return Winner(folder, SweepSettings.model_validate({"task": {"name": "classes"}, "data": TINY_DATA}))


def test_classes_are_shown_with_what_they_are_taken_for(tmp_path: Path) -> None:
    best = {"accuracy": 0.5, "zero_shot_accuracy": 0.25, "generic_retention": 0.75}
    (tmp_path / "metrics.json").write_text(json.dumps({"best": best}))
    prepared = open_data(TINY_DATA, cache=cache_root())
    section = details(winner(tmp_path, truth=[0, 0, 0, 0, 1, 1, 2], answer=[0, 1, 1, 2, 1, 1, 0]))
    assert section.lines == ("zero-shot accuracy of its towers: 25.00", "retention of generic prompts: 75.00")
    by_class, confused = section.tables
    assert [str(row[0]) for row in by_class.rows] == ["fist", "palm", "back"], "worst first"
    assert by_class.rows[1][1:] == ("50.00", "25.00", "33.33", "4", "2")
    assert confused.rows[0] == ("palm", "back", "2", "50.00")
    assert len(confused.rows) == 3
    (figure,) = section.figures
    assert figure.data[0]["z"] == [[25.0, 50.0, 25.0], [0.0, 100.0, 0.0], [100.0, 0.0, 0.0]]
    assert figure.data[0]["y"] == list(NAMES)
    strip = section.strips[0]
    assert strip.caption == "palm, taken for back:"
    assert [image.caption for image in strip.images] == list(prepared.manifest["path"][[1, 2]])
    assert all(image.source.startswith("data:image/jpeg;base64,") for image in strip.images)
    assert "| palm | back | 2 | 50.00 |" in section.markdown()


def test_a_classifier_without_errors_confuses_nothing(tmp_path: Path) -> None:
    section = details(winner(tmp_path, truth=[0, 1, 2], answer=[0, 1, 2]))
    assert [table.title for table in section.tables] == ["By class, validation"]
    assert section.strips == ()


def test_of_many_classes_those_with_errors_are_drawn(tmp_path: Path) -> None:
    names = tuple(f"class {at}" for at in range(40))
    section = details(winner(tmp_path, truth=[*range(40), 38], answer=[*range(40), 39], names=names))
    shown = section.figures[0].data[0]["x"]
    assert len(shown) == MOST_CLASSES
    assert {"class 38", "class 39"} <= set(shown)
    assert "of 40 with most errors" in section.figures[0].caption


def test_both_directions_of_a_search_by_captions_are_shown(tmp_path: Path) -> None:
    vectors = np.eye(4, dtype=np.float32)
    texts = vectors[[0, 1, 3, 2]]
    every = np.arange(4)
    Captions().save(tmp_path / "scores.npz", score_captions(Pairing(vectors, texts, every, every, every), every))
    settings = SweepSettings.model_validate({"task": {"name": "captions"}, "data": TINY_DATA})
    section = details(Winner(tmp_path, settings))
    (table,) = section.tables
    assert table.headings[:2] == ("direction", "R@1")
    assert [row[:2] for row in table.rows] == [("text to image", "50.00"), ("image to text", "50.00")]
    assert table.rows[0][-1] == "4"
    assert section.strips == (), "these are not the captions of the data"


def test_queries_of_both_directions_are_shown_with_what_they_find(tmp_path: Path) -> None:
    prepared = open_data(TINY_DATA, cache=cache_root())
    rows = np.flatnonzero(prepared.manifest["subset"] == "val")
    pairs = read_pairs(prepared).of(rows)
    image = np.searchsorted(rows, pairs.row)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(len(rows), 16)).astype(np.float32)
    texts = np.stack([vectors[image[pairs.text == at]].mean(axis=0) for at in range(len(pairs.texts))])
    texts += random.normal(size=texts.shape) * 0.5
    vectors, texts = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (vectors, texts))
    pairing = Pairing(vectors, texts.astype(np.float32), image, pairs.text, np.arange(len(rows)))
    Captions().save(tmp_path / "scores.npz", score_captions(pairing, rows))
    settings = SweepSettings.model_validate({"task": {"name": "captions"}, "data": TINY_DATA})
    found = Winner(tmp_path, settings)
    strips = details(found).strips
    assert [strip.caption.split(",")[0] for strip in strips] == [
        f"{direction}: {which} query"
        for direction in ("Text to image", "Image to text")
        for which in ("worst", "worst", "median", "best")
    ]
    known = set(zip(pairs.text.tolist(), pairs.row.tolist(), strict=True))
    assert found.questions is not None
    parts = found.questions.parts
    for at in parts["text to image"]:
        panel = found.questions.panel(at)
        text = pairs.texts.index(panel.question.text)
        similarity = texts[text] @ vectors.T
        best = rows[np.argsort(-similarity, kind="stable")[: len(panel.answers)]]
        assert [answer.row for answer in panel.answers] == best.tolist()
        assert [answer.right for answer in panel.answers] == [(text, row) in known for row in best.tolist()]
        assert found.questions.right[at] == panel.answers[0].right == (panel.outcome == "rank 1")
    for at in parts["image to text"]:
        panel = found.questions.panel(at)
        said = [pairs.texts.index(answer.text.partition(" ")[2]) for answer in panel.answers]
        assert [answer.right for answer in panel.answers] == [(text, panel.question.row) in known for text in said]
    asks_text, asks_image = strips[0].images, strips[-1].images
    assert [bool(one.source) for one in (*asks_text[:2], *asks_image[:2])] == [False, True, True, False]
    assert asks_image[1].mark == "right"


@pytest.mark.parametrize("task", ["classes", "captions"])
def test_without_results_the_section_says_so(tmp_path: Path, task: str) -> None:
    settings = SweepSettings.model_validate({"task": {"name": task}, "data": TINY_DATA})
    assert "exported no winner yet" in details(Winner(tmp_path / "none", settings)).missing
