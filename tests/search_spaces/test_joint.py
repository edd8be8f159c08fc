import optuna
import pytest
from optuna.distributions import BaseDistribution

from handclip_core.strategies import Full
from search_spaces.inventory import inventory
from search_spaces.joint import JointSpace
from search_spaces.narrowing import Narrowing
from search_spaces.spaces import SPACES, default_of, params_of
from search_spaces.suggest import Primitive

NAMES = tuple(SPACES)


class Source:
    """Random draws through a study of Optuna's."""

    def __init__(self, seed: int) -> None:
        self._trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()

    def __call__(self, name: str, distribution: BaseDistribution) -> Primitive:
        value: Primitive = self._trial._suggest(name, distribution)
        return value


@pytest.mark.parametrize("name", NAMES)
def test_the_default_of_the_whole_space_is_the_published_one(name: str) -> None:
    draft = JointSpace(NAMES).default(name)
    assert draft.strategy == default_of(name)
    assert draft.params == params_of(default_of(name))
    assert draft.params.keys() == draft.distributions.keys()


@pytest.mark.parametrize("name", NAMES)
def test_draws_can_be_drawn_again_from_what_was_stored(name: str) -> None:
    space = JointSpace(NAMES)
    for seed in range(20):
        draft = space.draw(name, Source(seed))
        assert space.redraw(name, draft.params) == draft


@pytest.mark.parametrize("name", NAMES)
def test_the_inventory_holds_all_that_is_ever_drawn(name: str) -> None:
    known = inventory(name)
    for seed in range(30):
        assert JointSpace(NAMES).draw(name, Source(seed)).distributions.items() <= known.items()


def test_a_default_outside_a_narrowed_range_moves_to_its_nearer_end() -> None:
    space = JointSpace(("full",), Narrowing({"optim/lr": (3e-5, 1e-4), "optim/batch_size": (64,)}))
    default, moved = default_of("full"), space.default("full").strategy
    changed = {"lr": 3e-5, "batch_size": 64}
    assert moved == default.model_copy(update={"optim": default.optim.model_copy(update=changed)})  # type: ignore[attr-defined]


def test_stored_draws_that_the_space_does_not_ask_for_are_refused() -> None:
    space = JointSpace(NAMES)
    params = space.default("adapters").params
    with pytest.raises(ValueError, match="adapters/colour is not searched"):
        space.redraw("adapters", params | {"adapters/colour": 1})
    with pytest.raises(ValueError, match="adapters/width was not drawn"):
        space.redraw("adapters", {name: value for name, value in params.items() if name != "adapters/width"})
    with pytest.raises(ValueError, match="adapters/width: 1 lies outside"):
        space.redraw("adapters", params | {"adapters/width": 1})


def test_a_point_may_name_only_what_has_an_effect_beside_its_other_values() -> None:
    space = JointSpace(("full",))
    margin = {"losses/identity/margin": 0.3}
    with pytest.raises(ValueError, match="losses/identity/margin: has no effect beside this point's other values"):
        space.point("full", margin)
    drawn = space.point("full", margin | {"losses/identity/kind": "arcface"}).strategy
    assert isinstance(drawn, Full)
    assert drawn.losses.identity.margin == 0.3
