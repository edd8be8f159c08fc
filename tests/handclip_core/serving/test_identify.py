"""Decisions at thresholds made by hand, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest

from handclip_core.errors import InputError
from handclip_core.evaluation.thresholds import Threshold, Thresholds
from handclip_core.serving import card
from handclip_core.serving.gallery import About, Entry, Gallery
from handclip_core.serving.identify import Decision, decide, identify, threshold_of, verify
from handclip_core.serving.images import Squares
from handclip_core.serving.model import ServedModel, open_run
from tests.handclip_core.serving.conftest import FinishedRun

pytestmark = pytest.mark.usefixtures("no_data")

POINT = Threshold(far=1e-2, value=0.6, low=0.5, high=0.7, tar=0.9)
STRICT = Threshold(far=1e-3, value=0.8, low=0.75, high=0.85, tar=0.8)


@pytest.fixture
def model(finished: FinishedRun) -> ServedModel:
    """A model with two thresholds, and the reason why it has no third one."""
    served = open_run(finished("full").folder)
    thresholds = Thresholds(points=(POINT, STRICT), refused=("0.0001: too few pairs",))
    return replace(served, validation=served.validation.model_copy(update={"thresholds": thresholds}))


@pytest.mark.parametrize(
    ("score", "decision"), [(0.9, "accept"), (0.7, "accept"), (0.69, "unknown"), (0.5, "unknown"), (0.49, "reject")]
)
def test_between_the_ends_of_the_interval_nothing_is_decided(score: float, decision: str) -> None:
    assert decide(score, POINT).value == decision
    assert decide(score, None) is Decision.NONE


def test_the_rate_chooses_the_threshold(model: ServedModel) -> None:
    assert threshold_of(model, 1e-2) == (POINT, "")
    assert threshold_of(model, None) == (STRICT, "")
    with pytest.raises(InputError, match=r"--far 0.0001: .* there are 0.01, 0.001 \(0.0001: too few pairs\)"):
        threshold_of(model, 1e-4)
    bare = replace(model, validation=model.validation.model_copy(update={"thresholds": Thresholds(refused=("why",))}))
    mend = f"set some by images of your own: handclip calibrate {model.folder} PEOPLE"
    assert threshold_of(bare, None) == (None, f"why; {mend}")
    with pytest.raises(InputError, match="there is no threshold: why") as refused:
        threshold_of(bare, 1e-2)
    assert str(refused.value).endswith(mend)


def test_a_threshold_of_another_model_is_said_to_be_so_wherever_it_decides(model: ServedModel) -> None:
    thresholds = model.validation.thresholds.model_copy(update={"origin": "measured elsewhere"})
    other = replace(model, validation=model.validation.model_copy(update={"thresholds": thresholds}))
    pair = np.array([[1, 0], [0.6, 0.8]], np.float32)
    gallery = Gallery(About(model=model.hash, run="", width=2), (Entry("ann", "ann.jpg", "ann"),), pair[:1])
    for served, said in ((model, ""), (other, "measured elsewhere")):
        found = verify(served, pair, far=1e-2)
        answer = identify(served, Squares(names=["q"], unreadable={}), pair[1:], gallery, top=1, far=1e-2)
        assert (found["threshold_origin"], answer.values()["threshold_origin"]) == (said, said)
        for text in (found["meaning"], answer.text(), thresholds_in_card(served)):
            assert ("measured elsewhere" in text) == bool(said)


def thresholds_in_card(served: ServedModel) -> str:
    """What the model card says of decisions."""
    return card._decisions(served)


def test_an_answer_names_people_scores_and_decisions(model: ServedModel) -> None:
    angles = np.array([0.0, 0.2, 1.2], np.float32)
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    entries = tuple(Entry(name, f"{name}.jpg", name) for name in ("ann", "ben", "cid"))
    gallery = Gallery(About(model=model.hash, run="", width=2), entries, embeddings)
    squares = Squares(names=["q1", "q2"], unreadable={"q3": "corrupt"})
    queries = np.stack([np.cos([0.05, 2.0]), np.sin([0.05, 2.0])], axis=1).astype(np.float32)
    answer = identify(model, squares, queries, gallery, top=2, far=1e-2)
    first, second = answer.results
    assert [one.identity for one in first.candidates] == ["ann", "ben"]
    assert first.candidates[1].score == pytest.approx(np.cos(0.15))
    assert (first.decision, second.decision) == (Decision.ACCEPT, Decision.UNKNOWN)
    assert second.candidates[0].score == pytest.approx(np.cos(0.8))
    assert answer.far_of_search == pytest.approx(3e-2)
    assert "3 enrolled images a stranger is accepted in at most 3.0% of searches" in answer.text()
    assert answer.values()["unreadable"] == {"q3": "corrupt"}
    assert [(row["image"], row["rank"], row["identity"]) for row in answer.rows()] == [
        ("q1", 1, "ann"), ("q1", 2, "ben"), ("q2", 1, "cid"), ("q2", 2, "ben"),
    ]  # fmt: skip


def test_a_pair_is_verified_by_its_score(model: ServedModel) -> None:
    found = verify(model, np.array([[1, 0], [0.6, 0.8]], np.float32), far=1e-2)
    assert found["score"] == pytest.approx(0.6)
    assert found["decision"] == "unknown"
    assert found["threshold"] == POINT.model_dump()
