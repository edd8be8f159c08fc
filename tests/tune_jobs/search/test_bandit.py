import numpy as np
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_jobs.search import bandit as strategy_bandit
from tune_jobs.search.trial_views import PastTrials, Tally

NAMES = ("probe", "full", "adapters")


def fewest(names: tuple[str, ...], trials: list[FrozenTrial]) -> str:
    return strategy_bandit.fewest(names, Tally().with_more(trials))


def most_promising(names: tuple[str, ...], trials: list[FrozenTrial]) -> str:
    return strategy_bandit.most_promising(names, Tally().with_more(trials))


def trial(strategy: str, *curve: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    return create_trial(
        state=state,
        value=max(curve) if state is TrialState.COMPLETE else None,
        intermediate_values=dict(enumerate(curve, start=1)),
        user_attrs={"strategy": strategy},
    )


def finished(**scores: tuple[float, ...]) -> list[FrozenTrial]:
    return [trial(name, score) for name, found in scores.items() for score in found]


def test_the_least_tried_comes_first_whatever_became_of_its_trials() -> None:
    trials = [trial("probe", 0.5), trial("full", state=TrialState.FAIL), trial("adapters", state=TrialState.RUNNING)]
    assert fewest(NAMES, trials) == "probe"
    assert fewest(NAMES, trials[:1]) == "full"
    assert fewest(NAMES, [*trials, trial("probe", 0.5)]) == "full"


def test_every_strategy_is_tried_twice_before_any_is_preferred() -> None:
    trials = finished(probe=(0.9, 0.9), full=(0.1, 0.1), adapters=(0.1,))
    assert most_promising(NAMES, trials) == "adapters"


def test_the_best_strategy_is_preferred_until_it_stops_improving() -> None:
    trials = finished(probe=(0.60, 0.62), full=(0.70, 0.66), adapters=(0.61, 0.58))
    assert most_promising(NAMES, trials) == "full"
    many = tuple(0.60 + n / 300 for n in range(30))
    close = finished(probe=(0.69, 0.66), full=(0.70, 0.66, *many), adapters=(0.61, 0.58))
    assert most_promising(NAMES, close) == "probe"


def test_trials_that_were_stopped_do_not_speak_against_their_strategy() -> None:
    """One of full's trials ended well; ten that early stopping ended at a low score say little."""
    stopped = [trial("full", 0.2 + n / 100, state=TrialState.PRUNED) for n in range(3)]
    trials = finished(probe=(0.6, 0.55), full=(0.75,), adapters=(0.6, 0.59)) + stopped
    assert most_promising(NAMES, trials) == "full"


def test_running_trials_keep_workers_from_all_choosing_the_same() -> None:
    trials = finished(probe=(0.68, 0.60), full=(0.70, 0.62), adapters=(0.2, 0.1))
    chosen = []
    for _ in range(12):
        name = most_promising(NAMES, trials)
        chosen.append(name)
        trials.append(trial(name, state=TrialState.RUNNING))
    assert {"probe", "full"} <= set(chosen)


def test_a_strategy_whose_trials_all_failed_is_left_alone() -> None:
    trials = finished(probe=(0.5, 0.4), adapters=(0.3, 0.35)) + [trial("full", state=TrialState.FAIL)] * 2
    assert "full" not in {most_promising(NAMES, trials + finished(probe=(0.4,) * n)) for n in range(10)}


def test_without_any_score_the_least_tried_is_next() -> None:
    running = [trial(name, state=TrialState.RUNNING) for name in NAMES for _ in range(2)]
    assert most_promising(NAMES, running[:-1]) == "adapters"
    assert most_promising(NAMES, running) == "probe"


def test_most_trials_go_to_the_better_of_two_strategies_and_regret_is_lower_than_with_equal_shares() -> None:
    means = {"probe": 0.60, "full": 0.70, "adapters": 0.64}

    def best_after(trials: int, seed: int, *, adaptive: bool) -> tuple[float, int]:
        rng = np.random.default_rng(seed)
        past: list[FrozenTrial] = []
        for _ in range(trials):
            name = most_promising(NAMES, past) if adaptive else fewest(NAMES, past)
            past.append(trial(name, float(rng.normal(means[name], 0.03))))
        mine = sum(item.user_attrs["strategy"] == "full" for item in past)
        return max(item.values[0] for item in past), mine

    adaptive = [best_after(30, seed, adaptive=True) for seed in range(20)]
    equal = [best_after(30, seed, adaptive=False) for seed in range(20)]
    assert np.mean([score for score, _ in adaptive]) > np.mean([score for score, _ in equal])
    assert np.mean([count for _, count in adaptive]) > 20


def test_a_tally_that_grows_with_the_study_is_that_of_all_its_trials() -> None:
    rng = np.random.default_rng(0)
    learned = finished(probe=(0.4, 0.5))
    history, trials = PastTrials(NAMES, learned=learned, stopped_count=False), list[FrozenTrial]()
    for _ in range(60):
        place = int(rng.integers(len(trials) + 1))
        if place < len(trials) and trials[place].state is TrialState.RUNNING:
            trials[place] = trial(trials[place].user_attrs["strategy"], float(rng.random()))
        else:
            state = TrialState.RUNNING if rng.random() < 0.5 else TrialState.PRUNED
            trials.append(trial(str(rng.choice(NAMES)), float(rng.random()), state=state))
        found, whole = history.tally(trials), Tally().with_more([*learned, *trials])
        assert found.tried == whole.tried
        assert {name: sorted(scores) for name, scores in found.scores.items()} == {
            name: sorted(scores) for name, scores in whole.scores.items()
        }


def test_of_equal_promise_the_cheaper_is_tried_while_many_trials_are_left() -> None:
    tally = Tally().with_more(finished(probe=(0.60, 0.62), full=(0.61, 0.62)))
    costs = {"probe": 10.0, "full": 1.0}
    assert strategy_bandit.most_promising(NAMES[:2], tally) == "probe"
    assert strategy_bandit.most_promising(NAMES[:2], tally, costs, cooling=1.0) == "full"
    assert strategy_bandit.most_promising(NAMES[:2], tally, costs, cooling=0.0) == "probe"
    better = Tally().with_more(finished(probe=(0.75, 0.77), full=(0.61, 0.62)))
    assert strategy_bandit.most_promising(NAMES[:2], better, costs, cooling=0.3) == "probe"
