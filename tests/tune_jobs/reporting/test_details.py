"""What the report shows of classifiers and of searches by captions."""

import json
from pathlib import Path

import numpy as np
import pytest

from handclip_core.data.sources import open_data
from handclip_core.paths import cache_root
from handclip_core.tasks.captions.scores import Pairing, score_captions
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
    (table,) = details(Winner(tmp_path, settings)).tables
    assert table.headings[:2] == ("direction", "R@1")
    assert [row[:2] for row in table.rows] == [("text to image", "50.00"), ("image to text", "50.00")]
    assert table.rows[0][-1] == "4"


@pytest.mark.parametrize("task", ["classes", "captions"])
def test_without_results_the_section_says_so(tmp_path: Path, task: str) -> None:
    settings = SweepSettings.model_validate({"task": {"name": task}, "data": TINY_DATA})
    assert "exported no winner yet" in details(Winner(tmp_path / "none", settings)).missing
