import optuna
import pytest
from pydantic import Field, ValidationError

from handclip_core.config import Config
from handclip_core.engine.phase import Optim, Schedule
from handclip_core.strategies import Full, LinearProbe, SequentialEWC
from search_spaces.suggest import Choice, Float, LogFloat, LogInt, Nested, Range, SettingsTrial, label, suggest


class Inner(Config):
    depth: int = 3
    rate: float = Field(0.5, ge=0, le=1)


class Outer(Config):
    inner: Inner = Inner(depth=7)
    width: int = 16
    kinds: tuple[str, ...] = ("a", "b")
    on: bool = False


def fixed(**params: object) -> optuna.trial.FixedTrial:
    return optuna.trial.FixedTrial({name.replace("__", "/"): value for name, value in params.items()})


def test_drawn_fields_replace_defaults_and_all_others_stay() -> None:
    drawn = suggest(fixed(outer__width=32), Outer, prefix="outer", width=LogInt(4, 64))
    assert drawn == Outer(width=32)


def test_nested_fields_keep_the_outer_default_and_are_named_by_their_path() -> None:
    drawn = suggest(fixed(outer__inner__rate=0.25), Outer, prefix="outer", inner=Nested(Inner, rate=Float(0, 1)))
    assert drawn.inner == Inner(depth=7, rate=0.25)


def test_a_misspelt_field_is_a_type_error_that_names_the_fields() -> None:
    with pytest.raises(TypeError, match=r"Outer has no field 'widht'; it has inner, width"):
        suggest(fixed(), Outer, prefix="outer", widht=LogInt(4, 64))
    with pytest.raises(TypeError, match="Inner has no field 'wrong'"):
        Nested(Inner, wrong=Float(0, 1))


def test_a_range_wider_than_the_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        suggest(fixed(o__inner__rate=1.5), Outer, prefix="o", inner=Nested(Inner, rate=Float(0, 2)))


def test_choices_reach_optuna_as_labels_and_the_settings_as_values() -> None:
    orders = (("a", "b"), ("b", "a"))
    drawn = suggest(fixed(outer__kinds="b > a"), Outer, prefix="outer", kinds=Choice(orders))
    assert drawn.kinds == ("b", "a")
    assert [label(value) for value in (True, None, 3, 0.5, "x", Schedule.COSINE)] == [True, None, 3, 0.5, "x", "cosine"]


def test_every_range_draws_from_both_ends_of_what_it_says() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    floats, logs, ints = Float(2.0, 3.0), LogFloat(1e-6, 1e-2), LogInt(4, 256)
    drawn = []
    for _ in range(300):
        trial = study.ask()
        drawn.append((floats.draw(trial, "a"), logs.draw(trial, "b"), ints.draw(trial, "c")))
    a, b, c = (sorted(column) for column in zip(*drawn, strict=True))
    assert 2.0 <= a[0] < 2.05 < 2.95 < a[-1] <= 3.0
    assert 1e-6 <= b[0] < 1.5e-6 < 1e-5 < b[len(b) // 2] < 1e-3 < 5e-3 < b[-1] <= 1e-2
    assert 4 == c[0] < 20 < c[len(c) // 2] < 60 < 200 < c[-1] <= 256


def test_reading_settings_back_gives_the_draws_that_lead_to_them() -> None:
    settings = Outer(inner=Inner(depth=7, rate=0.125), width=8, on=True)
    reader = SettingsTrial(settings)
    ranges: dict[str, Range | Nested] = {
        "inner": Nested(Inner, rate=Float(0, 1)),
        "width": LogInt(4, 64),
        "on": Choice((False, True)),
    }
    assert suggest(reader, Outer, prefix="outer", **ranges) == settings
    assert reader.params == {"outer/inner/rate": 0.125, "outer/width": 8, "outer/on": True}


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"width": LogInt(32, 64)}, "outer/width = 16 lies outside 32 to 64"),
        ({"kinds": Choice((("b", "a"),))}, "outer/kinds = 'a > b' is none of 'b > a'"),
    ],
)
def test_reading_settings_outside_the_space_says_which(ranges: dict[str, LogInt | Choice], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suggest(SettingsTrial(Outer()), Outer, prefix="outer", **ranges)


def test_strategies_keep_their_own_optimiser_defaults_under_partial_ranges() -> None:
    ranges = Nested(Optim, weight_decay=LogFloat(1e-4, 0.3))
    probe = suggest(fixed(p__optim__weight_decay=0.1), LinearProbe, prefix="p", optim=ranges)
    full = suggest(fixed(p__optim__weight_decay=0.1), Full, prefix="p", optim=ranges)
    assert probe.optim.lr == LinearProbe().optim.lr != full.optim.lr
    assert probe.optim.weight_decay == full.optim.weight_decay == 0.1


def test_validators_of_the_class_see_drawn_values() -> None:
    order = SequentialEWC().order
    with pytest.raises(ValidationError, match="name each aspect once"):
        suggest(SettingsTrial(SequentialEWC()), SequentialEWC, prefix="s", order=_Always((order[0], order[0])))


class _Always:
    def __init__(self, value: object) -> None:
        self.value = value

    def draw(self, trial: object, name: str) -> object:
        del trial, name
        return self.value
