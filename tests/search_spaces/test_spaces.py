import optuna
import pytest

from handclip_core.data.augment import AugmentSettings
from handclip_core.models.neck import NeckKind
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full, LinearProbe, serving
from handclip_core.tasks import IDENTITIES
from search_spaces.spaces import SPACES, default_of, experiment_space, params_of, searchable

NAMES = tuple(SPACES)


def study(seed: int = 0) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


def test_every_strategy_has_a_space_in_the_order_of_tables() -> None:
    assert serving(IDENTITIES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_default_lies_inside_its_own_space(name: str) -> None:
    params = params_of(default_of(name))
    assert SPACES[name](optuna.trial.FixedTrial(params)) == default_of(name)
    assert all(key.startswith(f"{name}/") for key in params)


@pytest.mark.parametrize("name", NAMES)
def test_two_hundred_draws_are_valid_experiments_that_can_be_read_back(name: str) -> None:
    random = study()
    for _ in range(200):
        trial = random.ask()
        strategy = SPACES[name](trial)
        assert Experiment.model_validate_json(Experiment(strategy=strategy).model_dump_json()).strategy == strategy
        assert params_of(strategy) == trial.params


def test_zero_shot_has_nothing_to_search() -> None:
    assert searchable(NAMES) == tuple(name for name in NAMES if name != "zero_shot")


def test_the_joint_space_draws_every_searchable_strategy_and_only_its_own_parameters() -> None:
    random = study()
    seen = set()
    for _ in range(150):
        trial = random.ask()
        name = experiment_space(trial, searchable(NAMES)).name
        seen.add(name)
        assert trial.params.pop("strategy") == name
        assert all(key == "strategy" or key.startswith(f"{name}/") for key in trial.params)
    assert seen == set(searchable(NAMES))


def test_mirroring_is_off_by_default_and_searched_as_a_switch() -> None:
    assert params_of(Full())["full/augment/flip"] is False
    random = study()
    flips = {SPACES["full"](random.ask()).augment.flip for _ in range(30)}  # type: ignore[attr-defined]
    assert flips == {False, True}


def test_the_probe_always_trains_a_neck_and_always_from_cached_activations() -> None:
    random = study()
    for _ in range(50):
        drawn = SPACES["linear_probe"](random.ask())
        assert isinstance(drawn, LinearProbe)
        assert drawn.neck.kind is not NeckKind.NONE
        assert drawn.augment == AugmentSettings()


def test_settings_outside_what_is_searched_cannot_be_read_back() -> None:
    with pytest.raises(ValueError, match="full: settings that are not searched differ"):
        params_of(Full(labels="person"))
    with pytest.raises(ValueError, match="full/optim/lr = 1 lies outside"):
        params_of(Full(optim={"lr": 1.0}))
