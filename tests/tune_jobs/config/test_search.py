from typing import Any

import pytest

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.tasks.identities.task import Identities
from tune_jobs.config.search import SamplerKind, Search, StrategyBandit, maximized, possible_objectives

METRICS = Identities().metrics
OBJECTIVES = possible_objectives(METRICS)
STRATEGIES = ("zero_shot", "linear_probe", "full")


def parsed(**values: Any) -> Search:
    return Search.parse(values, source="sweep.yaml")


def test_what_is_left_out_searches_as_ever() -> None:
    search = parsed()
    assert (search.sampler, search.strategy_bandit, search.replicas) == (SamplerKind.TPE, StrategyBandit.ADAPTIVE, 1)
    assert search.judged_by(METRICS).objectives == ("map",)
    search.check(STRATEGIES)
    assert search.drafts(STRATEGIES) == ()


def test_every_field_says_what_it_means() -> None:
    assert issubclass(Search, Config)
    assert all(field.description for field in Search.model_fields.values())


def test_points_and_ranges_are_read_as_yaml_gives_them() -> None:
    search = parsed(
        points=[{"strategy": "full", "optim/lr": "1e-5", "neck/kind": "bn", "frozen_blocks": 2}],
        ranges={"optim/lr": ["1e-4", 5e-4], "full/augment/flip": [True], "full/optim/lr": [1e-6, 2e-5]},
    )
    search.check(STRATEGIES)
    ((_, draft),) = search.drafts(STRATEGIES)
    assert draft.params["full/optim/lr"] == 1e-5
    assert draft.params["full/augment/flip"] is True
    space = search.space(STRATEGIES)
    assert space.default("linear_probe").params["linear_probe/optim/lr"] == 5e-4


def test_map_is_the_first_objective_wherever_it_stands() -> None:
    assert parsed(objectives=["seconds", "map"]).judged_by(METRICS).objectives == ("map", "seconds")


def test_every_metric_may_be_searched_for_beside_what_a_trial_costs() -> None:
    assert {"map", "cmc1", "minp", "retention", "params_trained", "seconds"} <= set(OBJECTIVES)
    assert parsed(objectives=OBJECTIVES).judged_by(METRICS).objectives == OBJECTIVES
    assert [name for name in OBJECTIVES if not maximized(name)] == ["params_trained", "seconds"]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (["seconds"], "objectives: name map, and each objective once"),
        (["map", "speed"], "objectives: unknown objective 'speed'; choose from map, "),
        (["map", "map"], "objectives: name map, and each objective once"),
    ],
)
def test_objectives_are_those_of_the_task_and_of_costs(objectives: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parsed(objectives=objectives).judged_by(METRICS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "bogus"}, "sampler: "),
        ({"startup": 3}, "unknown key 'startup'"),
        ({"replicas": 0}, "replicas: "),
        ({"storage": ""}, "storage: "),
    ],
)
def test_wrong_values_are_one_line_that_names_the_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed(**values)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"ranges": {"optim/lrr": [1, 2]}},
            "search.ranges: unknown hyperparameter 'optim/lrr': did you mean 'optim/lr'?",
        ),
        ({"ranges": {"adapters/width": [8, 16]}}, "search.ranges: unknown hyperparameter 'adapters/width'"),
        ({"ranges": {"full/optim/lr": [1e-9, 1e-4]}}, "full/optim/lr: 1e-09 lies outside 1e-06 to 0.0001"),
        ({"ranges": {"full/optim/lr": [1e-4, 1e-5]}}, "full/optim/lr: 0.0001 is more than 1e-05; give [low, high]"),
        ({"ranges": {"full/optim/lr": [1e-4]}}, "full/optim/lr: give two numbers, [low, high]"),
        ({"ranges": {"full/optim/lr": ["a", "b"]}}, "full/optim/lr: 'a' is no number"),
        ({"ranges": {"neck/kind": []}}, "neck/kind: name at least one choice"),
        ({"ranges": {"full/augment/flip": [1]}}, "full/augment/flip: 1 is not one of false, true"),
        (
            {"ranges": {"optim/lr": [1e-6, 1e-5]}},
            "optim/lr: 1e-06 lies outside 0.0001 to 0.1; narrow linear_probe/optim/lr",
        ),
        ({"points": [{"optim/lr": 1e-4}]}, "search.points[0]: give a strategy, one of zero_shot, linear_probe, full"),
        ({"points": [{"strategy": "adapters"}]}, "search.points[0]: 'adapters' is not one of zero_shot, linear_probe"),
        ({"points": [{"strategy": "full", "lr": 1}]}, "search.points[0]: unknown hyperparameter 'lr'"),
        ({"points": [{"strategy": "full"}, {"strategy": "full", "optim/lr": 1}]}, "search.points[1]: optim/lr: 1 lies"),
        ({"points": [{"strategy": "full", "frozen_blocks": 3}]}, "frozen_blocks: 3 is not one of 0, 1, 2, 4"),
        ({"points": [{"strategy": "zero_shot", "optim/lr": 1}]}, "zero_shot searches nothing"),
        (
            {"points": [{"strategy": "full", "optim/lr": 1e-3}], "ranges": {"full/optim/lr": [1e-6, 1e-5]}},
            "search.points[0]: optim/lr: 0.001 lies outside 1e-06 to 1e-05",
        ),
    ],
)
def test_points_and_ranges_outside_the_space_say_where_and_what_is_allowed(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parsed(**values).check(STRATEGIES)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
