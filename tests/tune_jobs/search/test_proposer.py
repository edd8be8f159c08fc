"""What is tried next: the defaults, the points and then the sampler's draws, as a function of the trials alone."""

from typing import Any

import pytest

from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.strategies import ZeroShot
from search_spaces.spaces import SPACES, default_of
from search_spaces.suggest import Primitive
from tests.tune_jobs.made_up import MadeUpSweep, opened, validated
from tune_jobs.config.search import SamplerKind, Search, StrategyBandit
from tune_jobs.config.settings import SweepSettings
from tune_jobs.search.proposer import FixedList, Proposal, SearchProposer, directions
from tune_jobs.state.events import Learned, LearnedTrial
from tune_jobs.state.trials import Trials

ALL = tuple(SPACES)
PAIR = ("full", "adapters")
THREE = ("zero_shot", "linear_probe", "adapters")


def settings(strategies: tuple[str, ...] = ALL, *, seed: int = 3, **search: Any) -> SweepSettings:
    return SweepSettings(strategies=strategies, trials=100, seed=seed, search=Search(**{"startup_trials": 10} | search))


def begun(swept: SweepSettings, trials: int) -> list[Proposal]:
    """What is proposed if no trial ever ends."""
    sweep, proposer, found = MadeUpSweep(), SearchProposer(swept), []
    for _ in range(trials):
        proposal = proposer.next(sweep.all_trials)
        assert proposal is not None
        sweep.begin(proposal)
        found.append(proposal)
    return found


def test_every_default_is_tried_first_in_order_and_only_once() -> None:
    found = begun(settings(), len(ALL) + 20)
    first, later = found[: len(ALL)], found[len(ALL) :]
    assert [proposal.experiment.strategy for proposal in first] == [default_of(name) for name in ALL]
    assert all(proposal.experiment.strategy != default_of(proposal.experiment.strategy.name) for proposal in later)
    assert [proposal.origin for proposal in found] == ["default"] * len(ALL) + ["sampled"] * 20


def test_points_come_after_the_defaults_and_before_the_sampler() -> None:
    points = ({"strategy": "adapters", "width": 8}, {"strategy": "full", "optim/lr": "3e-5", "augment/flip": True})
    found = begun(settings(PAIR, points=points), 5)
    assert [proposal.origin for proposal in found] == ["default", "default", "point 0", "point 1", "sampled"]
    assert found[2].experiment.strategy == default_of("adapters").model_copy(update={"width": 8})
    assert (found[3].params["strategy/optim/lr"], found[3].params["strategy/augment/flip"]) == (3e-5, True)


def test_narrowed_ranges_hold_for_defaults_and_draws() -> None:
    ranges = {"full/optim/lr": (5e-5, 1e-4), "adapters/optim/lr": (1e-4, 2e-4), "full/frozen_blocks": (2, 4)}
    sweep, proposer = MadeUpSweep(), SearchProposer(settings(PAIR, ranges=ranges, startup_trials=4))
    for trial in sweep.run(proposer, (number / 100 for number in range(25))):
        rate = trial.params["strategy/optim/lr"]
        assert isinstance(rate, float)
        if trial.strategy == "full":
            assert 5e-5 <= rate <= 1e-4
            assert trial.params.get("strategy/frozen_blocks", 2) in (2, 4)
        else:
            assert 1e-4 <= rate <= 2e-4


@pytest.mark.parametrize("sampler", [SamplerKind.TPE, SamplerKind.RANDOM])
def test_nothing_is_tried_twice_while_there_is_something_else(sampler: SamplerKind) -> None:
    ranges = {
        "neck/source": ("both",),
        "neck/metric/kind": ("wccn",),
        "neck/metric/vectors": ("validation",),
        "neck/metric/dim": (32, 64, 128, 256),
        "labels": ("hand",),
    }
    swept = settings(("whitening",), ranges=ranges, sampler=sampler, startup_trials=2)
    sweep = MadeUpSweep()
    dims = [trial.params["strategy/neck/metric/dim"] for trial in sweep.run(SearchProposer(swept), [0.5] * 4)]
    assert sorted(map(str, dims)) == sorted(map(str, (32, 64, 128, 256)))
    (again,) = sweep.run(SearchProposer(swept), [0.5])
    assert again.params["strategy/neck/metric/dim"] in dims


def test_the_baseline_is_never_suggested_again() -> None:
    names = [proposal.experiment.strategy.name for proposal in begun(settings(), 60)]
    assert names.count("zero_shot") == 1
    assert set(names) == set(ALL)


def test_a_sweep_of_the_baseline_alone_ends_after_it() -> None:
    sweep, proposer = MadeUpSweep(), SearchProposer(settings(("zero_shot",)))
    sweep.complete(sweep.begin(proposer.next(sweep.all_trials)), 0.5)
    assert proposer.next(sweep.all_trials) is None


def test_draws_are_named_by_the_fields_path_and_reach_the_settings() -> None:
    _, proposal = begun(settings(("full",)), 2)
    strategy = proposal.experiment.strategy.model_dump(mode="json")
    assert proposal.params["strategy/optim/lr"] == strategy["optim"]["lr"]
    assert proposal.params["strategy/augment/flip"] == strategy["augment"]["flip"]
    assert all(name.startswith("strategy/") for name in proposal.params)


def test_an_experiment_has_the_sweeps_seed_and_budget() -> None:
    swept = settings(PAIR, seed=8)
    assert {(p.experiment.seed, p.experiment.budget) for p in begun(swept, 4)} == {(8, swept.budget)}


@pytest.mark.parametrize("strategy_bandit", StrategyBandit)
def test_equal_shares_are_equal_and_adaptive_ones_go_where_it_pays(strategy_bandit: StrategyBandit) -> None:
    strategies = ("full", "adapters", "linear_probe")
    sweep, proposer = MadeUpSweep(), SearchProposer(settings(strategies, strategy_bandit=strategy_bandit))
    for _ in range(60):
        trial = sweep.begin(proposer.next(sweep.all_trials))
        sweep.complete(trial, 0.9 if trial.strategy == "adapters" else 0.1)
    late = [trial.strategy for trial in sweep.all_trials.all()[30:]]
    if strategy_bandit is StrategyBandit.EQUAL:
        assert [late.count(name) for name in strategies] == [10, 10, 10]
    else:
        assert late.count("adapters") > len(late) / 2


def play(swept: SweepSettings, trials: int, *, anew: bool) -> list[Proposal]:
    """Three trials at a time; with ``anew`` each proposal is another driver's, which knows the journal alone.

    Every third trial is stopped, every seventh fails, the others end with a score of their rate.
    """
    sweep, proposer, found = MadeUpSweep(), SearchProposer(swept), list[Proposal]()
    while len(found) < trials:
        if anew:
            sweep.happened(opened(sweep.clock()))
            proposer = SearchProposer(swept)
        proposal = proposer.next(sweep.read_again() if anew else sweep.all_trials)
        assert proposal is not None
        sweep.begin(proposal)
        found.append(proposal)
        if len(found) >= 3:
            _end(sweep, len(found) - 3)
    return found


def _end(sweep: MadeUpSweep, number: int) -> None:
    trial = sweep.all_trials.trials[number]
    rate = trial.params.get("strategy/optim/lr", 0.001)
    assert isinstance(rate, float)
    sweep.score(trial, 50 * rate)
    if number % 7 == 6:
        sweep.end(trial, "failed", reason="RuntimeError: bad luck")
    elif number % 3 == 2:
        sweep.end(trial, "stopped")
    else:
        sweep.complete(trial, 55 * rate)


@pytest.mark.parametrize(
    ("sampler", "strategy_bandit", "trials"),
    [
        (SamplerKind.TPE, StrategyBandit.ADAPTIVE, 18),
        (SamplerKind.TPE, StrategyBandit.EQUAL, 18),
        (SamplerKind.RANDOM, StrategyBandit.ADAPTIVE, 9),
        (SamplerKind.GP, StrategyBandit.EQUAL, 11),
        (SamplerKind.CMAES, StrategyBandit.ADAPTIVE, 18),
    ],
)
def test_a_driver_that_is_replaced_before_every_trial_proposes_the_same(
    sampler: SamplerKind, strategy_bandit: StrategyBandit, trials: int
) -> None:
    swept = settings(
        THREE,
        sampler=sampler,
        strategy_bandit=strategy_bandit,
        startup_trials=4,
        points=({"strategy": "adapters", "optim/lr": 1e-4},),
    )
    assert play(swept, trials, anew=True) == play(swept, trials, anew=False)


def test_nothing_changes_if_it_is_asked_again_for_the_same_trials() -> None:
    sweep, proposer = MadeUpSweep(), SearchProposer(settings(THREE, startup_trials=2))
    sweep.run(proposer, (0.1, 0.2, 0.3, 0.4, 0.5))
    first = proposer.next(sweep.all_trials)
    assert first is not None
    assert first.origin == "sampled"
    assert [proposer.next(sweep.all_trials) for _ in range(3)] == [first] * 3


def test_another_seed_draws_something_else() -> None:
    def draws(seed: int) -> list[object]:
        return [proposal.params for proposal in play(settings(THREE, seed=seed), 8, anew=False)[3:]]

    assert draws(1) == draws(1) != draws(2)


def test_a_trial_of_another_space_is_refused_with_its_number() -> None:
    sweep = MadeUpSweep()
    sweep.run(SearchProposer(settings(THREE)), (0.1, 0.2, 0.3))
    narrower = SearchProposer(settings(THREE, ranges={"linear_probe/optim/lr": (1e-4, 2e-4)}))
    # The defaults of the narrower space are others, so that the trials so far count as theirs.
    with pytest.raises(
        InputError, match=r"trial 1 was drawn from another space \(linear_probe/optim/lr: .* outside.*--fork"
    ):
        narrower.next(sweep.all_trials)


def default_params(strategy: str) -> dict[str, Primitive]:
    """The values of a strategy's default, as draws."""
    proposal = SearchProposer(settings((strategy,))).next(Trials())
    assert proposal is not None
    return proposal.params


def learned(*, good: str, trials: int) -> Learned:
    """Trials of another sweep, whose rates rise; those of ``good`` have higher scores."""
    rates = [1e-4 * 1.2**number for number in range(trials)]
    found = [
        LearnedTrial(
            strategy=name,
            params=default_params(name) | {"strategy/optim/lr": rate},
            complete=True,
            values=(0.9 if name == good else 0.1,),
            curve={1: 0.9 if name == good else 0.1},
        )
        for rate in rates
        for name in ("linear_probe", "adapters")
    ]
    return Learned(at=0.0, source="old", trials=tuple(found))


def test_what_was_learned_elsewhere_steers_the_search_but_is_no_trial_of_this_sweep() -> None:
    def names(*, anew: bool, warm: bool) -> list[str]:
        sweep, swept = MadeUpSweep(), settings(THREE, startup_trials=5)
        proposer = SearchProposer(swept)
        if warm:
            sweep.happened(learned(good="adapters", trials=8))
        assert sweep.all_trials.all() == []
        for _ in range(20):
            proposer = SearchProposer(swept) if anew else proposer
            sweep.begin(proposer.next(sweep.all_trials))
        return [view.strategy for view in sweep.all_trials.all()]

    warm = names(anew=False, warm=True)
    assert warm[:3] == list(THREE), "the defaults come first nevertheless"
    assert names(anew=True, warm=True) == warm
    assert warm.count("adapters") > names(anew=False, warm=False).count("adapters") + 4


@pytest.mark.parametrize("sampler", [SamplerKind.TPE, SamplerKind.GP])
def test_a_search_of_several_objectives_goes_on_past_stopped_and_failed_trials(sampler: SamplerKind) -> None:
    swept = settings(THREE, objectives=("map", "params_trained"), sampler=sampler, startup_trials=4)
    sweep, proposer = MadeUpSweep(), SearchProposer(swept)
    for number in range(9):
        trial = sweep.begin(proposer.next(sweep.all_trials))
        sweep.score(trial, number / 10)
        sweep.end(trial, ("complete", "complete", "stopped", "failed")[number % 4])
    assert proposer.next(sweep.all_trials) is not None


@pytest.mark.parametrize(("trials", "chosen"), [(100, "full@test_vit"), (4, "full@handclip-nano")])
def test_of_several_backbones_seconds_count_at_first_and_trials_at_the_end(trials: int, chosen: str) -> None:
    towers = [BackboneSettings(), BackboneSettings(name="timm/test_vit", pretrained="random")]
    swept = SweepSettings(backbone=towers, strategies=("full",), trials=trials)
    sweep, proposer = MadeUpSweep(), SearchProposer(swept)
    sweep.happened(opened(sweep.clock(), settings=swept.model_dump(mode="json")))
    scores = {"full@handclip-nano": [0.60, 0.62], "full@test_vit": [0.61, 0.62]}
    for _ in range(4):
        trial = sweep.begin(proposer.next(sweep.all_trials))
        seconds = 10.0 if trial.arm == "full@handclip-nano" else 1.0
        sweep.happened(validated(trial.number, 1, scores[trial.arm].pop(0), at=sweep.clock(), seconds=seconds))
        sweep.end(trial)
    assert sweep.begin(proposer.next(sweep.all_trials)).arm == chosen


def test_each_objective_has_its_direction() -> None:
    found = directions(("map", "retention", "params_trained", "seconds"))
    assert [way.name for way in found] == ["MAXIMIZE", "MAXIMIZE", "MINIMIZE", "MINIMIZE"]


def test_a_fixed_list_is_tried_in_order_whatever_came_of_each() -> None:
    experiment = settings().experiment(ZeroShot(), settings().backbones[0])
    proposer = FixedList({"first": experiment, "second": experiment.model_copy(update={"seed": 1})})
    sweep = MadeUpSweep()
    sweep.end(sweep.begin(proposer.next(sweep.all_trials)), "failed", reason="lost")
    second = sweep.begin(proposer.next(sweep.all_trials))
    assert (second.origin, second.experiment.seed, second.params) == ("second", 1, {})
    assert proposer.next(sweep.all_trials) is None
