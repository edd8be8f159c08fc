"""Questions that one finalist answers and another does not, made up so that it is known which."""

from dataclasses import replace

import numpy as np
import pytest

from handclip_core.data.manifest import Prepared
from handclip_core.data.sources import open_data
from handclip_core.paths import cache_root
from handclip_core.tasks.classes.scores import ClassScores
from handclip_core.tasks.classes.task import Classes
from tests.conftest import TINY_DATA
from tests.tune_jobs.finals.entries import entrant, finalist
from tune_jobs.finals.differences import differences
from tune_jobs.finals.mixtures import Entrant
from tune_jobs.finals.ranking import Standings, rank

NAMES = ("palm", "back", "fist")
TRUTH = np.array([0, 0, 1, 1, 2, 2])


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return open_data(TINY_DATA, cache=cache_root())


def classifier(strategy: str, *answers: list[int]) -> Entrant:
    """A finalist with these answers on each seed."""
    one = finalist(strategy, trial=0)
    one = replace(one, experiment=one.experiment.model_copy(update={"task": Classes()}))
    rows = np.arange(len(TRUTH))
    scores = tuple(ClassScores(NAMES, rows, TRUTH, rows, 0.4 * np.eye(3)[found] + 0.2) for found in answers)
    made = entrant(strategy, 0.1, seeds=tuple(range(len(answers))))
    return replace(made, recipe=replace(made.recipe, members=(one,)), scores=scores)


def test_shown_are_questions_that_one_alone_answers_on_most_seeds(prepared: Prepared) -> None:
    best = classifier("full", [0, 0, 1, 1, 2, 1], [0, 0, 1, 1, 2, 1])
    other = classifier("adapters", [0, 1, 1, 0, 0, 2], [0, 1, 1, 1, 0, 2])
    (section,) = differences(rank([other, best]), prepared)
    assert [row[1:] for row in section.tables[0].rows] == [
        (f"{100 * 5 / 12:.2f}", "2"),
        (f"{100 * 5 / 12:.2f}", "2"),
        (f"{100 * 2 / 12:.2f}", "1"),
        ("0.00", "0"),
    ]
    ours, theirs = section.strips
    assert ours.caption == "Right with full, default; wrong with adapters, default:"
    assert [(one.caption, one.mark) for one in ours.images[:3]] == [
        ("query: palm", ""),
        ("palm 0.60", "right"),
        ("back 0.60", "wrong"),
    ]
    assert len(ours.images) == 9, "three questions; that of one seed last"
    assert ours.images[6].caption == "query: back"
    assert [one.caption for one in theirs.images] == ["query: fist", "fist 0.60", "back 0.60"]


def gallery_standings() -> Standings:
    return rank([entrant("full", 0.5), entrant("zero_shot", 1.0)])


def test_queries_of_galleries_are_counted_and_shown_with_their_ranks(prepared: Prepared) -> None:
    standings = gallery_standings()
    (section,) = differences(standings, prepared)
    ours, theirs = (np.stack([one.answers == 1 for one in row.entrant.scores]) for row in standings.rows)
    assert section.tables[0].rows[1][1] == f"{100 * (ours & ~theirs).mean():.2f}"
    assert section.tables[0].rows[3][2] == str(int((~ours & ~theirs).all(axis=0).sum()))
    for image in section.strips[0].images:
        left, right = image.caption.partition(": ")[2].split(" | ")
        assert left == "rank 1"
        assert int(right.removeprefix("rank ")) > 1
        assert image.source.startswith("data:image/jpeg")


def test_nobody_is_compared_with_nobody_and_without_data_the_section_says_so(prepared: Prepared) -> None:
    assert differences(rank([entrant("full", 0.5)]), prepared) == []
    (section,) = differences(gallery_standings(), None)
    assert "not on this machine" in section.missing
