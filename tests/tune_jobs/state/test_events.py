"""Events as lines: what comes back is what was written, and what is unknown is refused."""

import math
import re
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full
from tests.tune_jobs.made_up import metrics, opened, validated
from tune_jobs.state.events import (
    EVENT,
    Begun,
    Event,
    Learned,
    LearnedTrial,
    Measured,
    Mixed,
    Mixture,
    Retried,
    Saved,
    Trained,
    TrialEvent,
    Validated,
)

KINDS = get_args(get_args(Event)[0])
UNIT: dict[str, Any] = {
    "at": 1.5, "trial": 3, "unit": 2, "images": 200, "seconds": 4.0, "params_trained": 7, "training": {"lr/head": 1e-3},
}  # fmt: skip
LEARNED = LearnedTrial(strategy="full", params={"a": 1, "b": 2.5, "c": "x", "d": True}, complete=True, values=(0.5,),
                       curve={1: 0.25, 3: 0.5})  # fmt: skip
RICH: list[Any] = [
    opened(1.0, gpus=0.5, settings={"trials": 3}),
    Begun(at=1.0, trial=0, params={"strategy/optim/lr": 1e-4}, experiment=Experiment(strategy=Full(), seed=4)),
    Learned(at=1.0, source="old", trials=(LEARNED,)),
    Measured(at=1.0, trial=0, images=16, unit_images=64, left_s=2.5),
    Trained(**UNIT, replica=1, memory=2**40),
    validated(0, 1, 0.5, at=2.0),
    Saved(at=2.0, trial=0, unit=1, checkpoint="trials/0000-full/checkpoint_000000", size=2**40),
    Retried(at=2.0, trial=0, reason="out of memory", micro_batch=8),
    Mixed(at=3.0, mixtures=(Mixture(name="full", status="soup", metrics={"map": 0.5}),)),
]


@pytest.mark.parametrize("event", RICH, ids=lambda event: event.event)
def test_an_event_comes_back_from_text_as_it_was(event: Any) -> None:
    again = EVENT.validate_json(event.model_dump_json())
    assert again == event
    assert type(again) is type(event)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_come_back_as_what_they_are(score: float) -> None:
    told = Validated(**UNIT, done=False, metrics=metrics(0.5, map=score), best=metrics(0.5), best_unit=1)
    again = EVENT.validate_json(told.model_dump_json())
    assert isinstance(again, Validated)
    assert again.metrics["cmc1"] == 0.5
    assert str(again.metrics["map"]) == str(score)
    learned = Learned(at=0.0, source="old", trials=(LEARNED.model_copy(update={"values": (score,)}),))
    found = EVENT.validate_json(learned.model_dump_json())
    assert isinstance(found, Learned)
    assert str(found.trials[0].values[0]) == str(score)


def test_every_kind_is_named_after_itself_and_those_of_trials_have_a_number() -> None:
    named = {kind.model_fields["event"].default: kind for kind in KINDS}
    assert len(named) == len(KINDS)
    for name, kind in named.items():
        assert re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() == name
    of_trials = {kind for kind in KINDS if "trial" in kind.model_fields}
    assert of_trials == {*get_args(TrialEvent), Begun}


def test_events_written_before_a_key_was_added_read_as_before() -> None:
    told = EVENT.validate_python(UNIT | {"event": "trained"})
    assert isinstance(told, Trained)
    assert (told.replica, told.memory) == (0, 0)
    retried = EVENT.validate_python({"event": "retried", "at": 1.0, "trial": 0, "reason": "lost"})
    assert isinstance(retried, Retried)
    assert (retried.micro_batch, retried.anew) == (None, False)


@pytest.mark.parametrize(
    "line",
    [
        {"event": "exploded", "at": 1.0},
        {"at": 1.0},
        {"event": "alive"},
        {"event": "alive", "at": 1.0, "trial": 3},
        {"event": "started", "at": 1.0},
        {"event": "ended", "at": 1.0, "trial": 0, "status": "waiting"},
        UNIT | {"event": "trained", "done": True},
        UNIT | {"event": "validated"},
    ],
)
def test_an_unknown_kind_or_key_and_a_missing_one_are_refused(line: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EVENT.validate_python(line)


def test_what_has_happened_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(opened(1.0), "at", 2.0)  # noqa: B010 - as an assignment mypy refuses it already
