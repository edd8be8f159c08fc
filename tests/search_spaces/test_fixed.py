"""Settings that stay as the user wants them in every trial of a sweep."""

import pytest

from handclip_core.errors import InputError
from handclip_core.strategies import Full, ZeroShot
from search_spaces.fixed import Fixed
from search_spaces.joint import JointSpace
from search_spaces.narrowing import first_of
from tune_jobs.config.settings import SweepSettings

OWN = {"use": "my_losses.Focal", "options": {"gamma": 2}, "weight": 0.5}


def settings(**fixed: object) -> SweepSettings:
    values = {"strategies": ["zero_shot", "full", "linear_probe"], "search": {"fixed": fixed}}
    return SweepSettings.parse(values, source="sweep.yaml")


def space(**fixed: object) -> JointSpace:
    found = settings(**fixed)
    return found.search.space(found.arms, found.task)


def test_every_trial_of_every_strategy_that_has_it_gets_the_value_and_the_draws_stay_as_they_were() -> None:
    plain, fixed = space(), space(**{"losses/own": OWN, "full/optim/clip_norm": 3.0})
    for arm in ("full", "linear_probe"):
        for draft, other in (
            (fixed.default(arm), plain.default(arm)),
            (fixed.draw(arm, lambda _, part: first_of(part)), plain.draw(arm, lambda _, part: first_of(part))),
        ):
            assert draft.params == other.params
            assert draft.distributions == other.distributions
            changed = other.strategy.model_dump()
            changed["losses"]["own"] = OWN
            if arm == "full":
                changed["optim"]["clip_norm"] = 3.0
            assert draft.strategy.model_dump() == changed
    assert fixed.default("zero_shot").strategy == ZeroShot()
    assert fixed.point("full", {"optim/lr": 1e-5}).strategy.optim.clip_norm == 3.0  # type: ignore[attr-defined]


def test_the_longer_key_counts() -> None:
    found = Fixed({"optim/clip_norm": 2.0, "full/optim/clip_norm": 3.0, "full@B/optim/clip_norm": 4.0})
    norms = [found.apply(arm, Full()).optim.clip_norm for arm in ("full", "full@A", "full@B")]
    assert norms == [3.0, 3.0, 4.0]
    assert Fixed({"optim/clip_norm": 2.0}).apply("full", Full()).optim.clip_norm == 2.0


def test_settings_of_another_sweep_are_held_only_with_what_stays_here() -> None:
    plain, fixed = space(), space(**{"full/optim/clip_norm": 3.0})
    draft = fixed.default("full")
    assert fixed.hold(draft.strategy) == draft
    for one, other in ((plain, draft.strategy), (fixed, Full())):
        with pytest.raises(ValueError, match="settings that are not searched differ from those of this sweep"):
            one.hold(other)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim/lr", 1e-3, r"search\.fixed: optim/lr: full searches optim/lr; narrow it by search\.ranges"),
        ("optim", {"lr": 1e-3}, r"optim: full searches optim/"),
        (
            "losses/ownn",
            OWN,
            r"losses/ownn: is no setting of zero_shot, full, linear_probe; did you mean 'losses/own'\?",
        ),
        ("name", "full", "name: is no setting"),
        ("losses/own", {"use": 3}, "losses/own: "),
        ("lora/rank", 4, "lora/rank: is no setting of"),
        # Fine beside the default's batches of 32, not beside the searched ones of 16.
        ("full/sampler", {"kind": "pk", "images_each": 24}, "full/sampler: .*16 images are fewer than"),
    ],
)
def test_what_cannot_stay_is_refused_by_key(key: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(**{key: value})
