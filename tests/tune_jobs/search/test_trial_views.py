"""What a sampler is shown of the trials so far."""

import copy

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_jobs.search.trial_views import BEST_SEEN, MOST_SEEN, PastTrials, bounded


def finished(number: int, value: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    trial = create_trial(
        state=state,
        value=value,
        params={"strategy": "full", "full/x": value},
        distributions={
            "strategy": CategoricalDistribution(("full", "adapters")),
            "full/x": FloatDistribution(0, 1),
        },
        user_attrs={"strategy": "full"},
        intermediate_values={1: value},
    )
    trial.number = number
    return trial


def test_of_many_trials_a_sampler_sees_the_best_and_the_latest_in_their_order() -> None:
    count = 3 * MOST_SEEN
    trials = [finished(number, 1 - number / count) for number in range(count)]
    seen = [trial.number for trial in bounded(trials)]
    assert seen == [*range(BEST_SEEN), *range(count - (MOST_SEEN - BEST_SEEN), count)]
    assert bounded(trials[:MOST_SEEN]) == trials[:MOST_SEEN]


def test_views_separate_the_choice_of_a_strategy_from_its_settings() -> None:
    views = PastTrials(("full", "adapters"), stopped_count=False)
    trials = [finished(0, 0.3), finished(1, 0.2, TrialState.PRUNED)]
    assert [trial.params for trial in views.inside("full", trials)] == [{"full/x": 0.3}, {"full/x": 0.2}]
    assert views.inside("adapters", trials) == []
    assert [trial.params for trial in views.across(trials)] == [{"strategy": "full"}] * 2
    assert [trial.state for trial in views.across(trials)] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert trials[0].params.keys() == {"strategy", "full/x"}


def test_stopped_trials_count_for_samplers_that_would_not_see_them() -> None:
    views = PastTrials(("full",), stopped_count=True)
    states = [trial.state for trial in views.inside("full", [finished(0, 0.2, TrialState.PRUNED)])]
    assert states == [TrialState.COMPLETE]


def test_trials_learned_elsewhere_are_older_than_all_others() -> None:
    views = PastTrials(("full",), learned=[finished(7, 0.9), finished(9, 0.8)], stopped_count=False)
    assert [trial.number for trial in views.inside("full", [finished(0, 0.1)])] == [-2, -1, 0]


def test_what_is_shown_of_many_trials_does_not_depend_on_when_they_were_looked_at() -> None:
    # Few different scores, so that many are equal; some trials run on while later ones end.
    rng = np.random.default_rng(0)
    learned = [finished(number, 0.5) for number in range(20)]
    watched = PastTrials(("full",), learned=learned, stopped_count=False)
    trials: list[FrozenTrial] = []
    for number in range(3 * MOST_SEEN):
        trials.append(finished(number, int(rng.integers(5)) / 5))
        # Most end soon, a few after hundreds of others.
        lasting = {one: 250 if one % 100 == 50 else one % 4 for one in range(number + 1)}
        shown = [running_copy(one) if number < one.number + lasting[one.number] else one for one in trials]
        if number % 37 == 0:
            at_once = PastTrials(("full",), learned=learned, stopped_count=False)
            everything = [*at_once._learned, *shown]
            expected = [trial.number for trial in bounded(everything)]
            assert [trial.number for trial in watched.inside("full", shown)] == expected
            assert [trial.number for trial in at_once.inside("full", shown)] == expected


def running_copy(trial: FrozenTrial) -> FrozenTrial:
    found = copy.copy(trial)
    found.state, found.values = TrialState.RUNNING, None
    return found
