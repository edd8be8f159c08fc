"""Samplers on a small space of their own: what they draw, from what, and that nothing but the past decides it."""

import math
import warnings
from collections.abc import Callable

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.suggest import Primitive
from tune_jobs.config.search import SamplerKind
from tune_jobs.search.samplers import Sampling, Suggestion, seed_of

SPACE: dict[str, BaseDistribution] = {
    "s/x": FloatDistribution(0.0, 1.0),
    "s/n": IntDistribution(1, 64, log=True),
    "s/kind": CategoricalDistribution(("a", "b", None)),
    "s/fixed": FloatDistribution(2.0, 2.0),
}
KINDS = [SamplerKind.TPE, SamplerKind.RANDOM, SamplerKind.GP]


def sampling(kind: SamplerKind, **changed: object) -> Sampling:
    return Sampling(**({"kind": kind, "seed": 1, "startup": 5} | changed))  # type: ignore[arg-type]


def draw(sampler: Sampling, past: list[FrozenTrial], names: Callable[[dict[str, Primitive]], list[str]]) -> FrozenTrial:
    """A finished trial after ``past``; ``names`` tells what to draw, given what has been drawn."""
    suggestion = Suggestion(sampler, past, len(past))
    params: dict[str, Primitive] = {}
    while missing := [name for name in names(params) if name not in params]:
        params[missing[0]] = suggestion(missing[0], SPACE[missing[0]])
    trial = create_trial(
        params=params,
        distributions={name: SPACE[name] for name in params},
        values=[score(params)] * len(sampler.directions),
        system_attrs=suggestion.attributes,
        user_attrs={"strategy": "s"},
    )
    trial.number = len(past)
    return trial


def score(params: dict[str, Primitive]) -> float:
    x = params["s/x"]
    assert isinstance(x, float)
    return -abs(x - 0.8) + (0.2 if params["s/kind"] == "b" else 0.0)


def everything(params: dict[str, Primitive]) -> list[str]:
    del params
    return list(SPACE)


def history(sampler: Sampling, trials: int) -> list[FrozenTrial]:
    past: list[FrozenTrial] = []
    for _ in range(trials):
        past.append(draw(sampler, past, everything))
    return past


@pytest.mark.parametrize("kind", KINDS)
def test_draws_lie_in_their_ranges_and_have_their_types(kind: SamplerKind) -> None:
    for trial in history(sampling(kind), 7):
        assert 0 <= trial.params["s/x"] <= 1
        assert type(trial.params["s/x"]) is float
        assert 1 <= trial.params["s/n"] <= 64
        assert type(trial.params["s/n"]) is int
        assert trial.params["s/kind"] in ("a", "b", None)
        assert trial.params["s/fixed"] == 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_past_the_number_and_the_seed_decide_alone(kind: SamplerKind) -> None:
    sampler = sampling(kind)
    past = history(sampler, 7)
    again = draw(sampling(kind), past, everything)
    assert draw(sampler, past, everything).params == again.params
    assert draw(sampling(kind, seed=2), past, everything).params != again.params


def test_independent_draws_do_not_depend_on_their_order() -> None:
    sampler = sampling(SamplerKind.RANDOM)
    forward = draw(sampler, [], everything)
    backward = draw(sampler, [], lambda params: list(reversed(SPACE)))  # noqa: ARG005
    assert forward.params == backward.params
    assert len({seed_of(0, number) for number in range(1000)}) == 1000
    assert seed_of(0, 1, "a") != seed_of(0, 1, "b")


@pytest.mark.parametrize("kind", [SamplerKind.TPE, SamplerKind.GP])
def test_samplers_learn(kind: SamplerKind) -> None:
    def late(sampler: SamplerKind) -> float:
        return sum(score(trial.params) for trial in history(sampling(sampler), 15)[7:])

    assert late(kind) > late(SamplerKind.RANDOM) + 1.0


def conditional_score(params: dict[str, Primitive]) -> float:
    """Best at a rate of 2e-4, which only one branch has."""
    return -abs(math.log10(float(params["s/rate"] or 0)) + 3.7) if params["s/kind"] == "b" else -2.0


def mean_of_late_trials(kind: SamplerKind, seed: int) -> float:
    """The mean score of the last of 24 trials on one choice and a rate that is there in one of its branches."""
    space: dict[str, BaseDistribution] = {
        "s/kind": CategoricalDistribution(("a", "b")),
        "s/rate": FloatDistribution(1e-5, 1e-1, log=True),
    }
    past: list[FrozenTrial] = []
    for number in range(24):
        suggestion = Suggestion(sampling(kind, seed=seed, startup=8), past, number)
        params = {"s/kind": suggestion("s/kind", space["s/kind"])}
        if params["s/kind"] == "b":
            params["s/rate"] = suggestion("s/rate", space["s/rate"])
        known = {name: space[name] for name in params}
        past.append(create_trial(params=params, distributions=known, value=conditional_score(params)))
        past[-1].number = number
    return sum(trial.value or 0.0 for trial in past[12:]) / 12


@pytest.mark.faults
def test_a_gaussian_process_learns_conditional_hyperparameters_as_well_as_tpe() -> None:
    mean = {
        kind: sum(mean_of_late_trials(kind, seed) for seed in range(10)) / 10
        for kind in (SamplerKind.GP, SamplerKind.TPE, SamplerKind.RANDOM)
    }
    assert mean[SamplerKind.GP] > mean[SamplerKind.TPE] - 0.1
    assert mean[SamplerKind.GP] > mean[SamplerKind.RANDOM] + 0.3


def test_a_branch_asks_for_its_own_numbers_only() -> None:
    """``n`` is there in branch b alone, as in a conditional space."""

    def conditional(params: dict[str, Primitive]) -> list[str]:
        return ["s/kind", "s/x"] + (["s/n"] if params.get("s/kind") == "b" else [])

    for kind in KINDS:
        past: list[FrozenTrial] = []
        for _ in range(8):
            past.append(draw(sampling(kind), past, conditional))
        assert {len(trial.params) for trial in past} == {2, 3}


@pytest.mark.parametrize("kind", KINDS)
def test_several_objectives_are_searched_with_stopped_trials_among_the_past(kind: SamplerKind) -> None:
    both = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
    sampler = sampling(kind, directions=both)
    past = history(sampler, 6)
    stopped = create_trial(
        state=TrialState.PRUNED,
        params=past[0].params,
        distributions=past[0].distributions,
        user_attrs={"strategy": "s"},
    )
    stopped.number = 6
    assert draw(sampler, [*past, stopped], everything).params.keys() == SPACE.keys()


def test_cmaes_draws_numbers_jointly_and_choices_by_tpe() -> None:
    past = history(sampling(SamplerKind.CMAES), 60)
    assert any("cma" in key for trial in past for key in trial.system_attrs)
    assert sum(score(trial.params) for trial in past[40:]) > sum(score(trial.params) for trial in past[:20])


def test_optuna_is_not_warned_about_at_every_trial() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        history(sampling(SamplerKind.TPE), 8)
