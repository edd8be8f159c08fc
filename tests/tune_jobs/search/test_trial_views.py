"""What a sampler is shown of the trials so far."""

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
