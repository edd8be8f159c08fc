"""The settings as text and as a JSON schema: every key, true defaults, and what editors would refuse."""

import json
from typing import Any, Literal

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import Field

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.runs.experiment import Experiment
from handclip_core.settings_reference import describe_settings, json_schema
from tune_jobs.config.settings import QUICKSTART, SweepSettings


class Rates(Config):
    """Rates of a made-up method."""

    lr: float = Field(0.5, gt=0, le=1)
    """The learning rate."""
    steps: int | None = Field(None, ge=2)
    """Steps;
    none for all."""


class Slow(Config):
    """A made-up method."""

    kind: Literal["slow"] = "slow"
    rates: Rates = Rates()
    folder: str
    """Where."""


class Quick(Config):
    """Another one."""

    kind: Literal["quick"] = "quick"
    rates: Rates = Rates(lr=0.25)


class Method(Config):
    """What is run."""

    method: Slow | Quick = Field(Quick(), discriminator="kind")
    """How."""


def test_a_key_is_told_with_kind_bounds_default_and_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert describe_settings(Method).splitlines() == [
        "method: group, whose kind is one of quick, slow; default quick",
        "    How.",
        "method.rates: group",
        "    Rates of a made-up method.",
        "method.rates.lr: number, above 0, at most 1; default 0.25; of quick",
        "    The learning rate.",
        "method.rates.steps: whole number, at least 2, or none; default none",
        "    Steps; none for all.",
        "method.rates.lr: number, above 0, at most 1; default 0.5; of slow",
        "    The learning rate.",
        "method.folder: text; has to be given; of slow",
        "    Where.",
    ]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("lr", ["method.rates.lr", "method.rates.lr"]),
        ("method.rates.lr", ["method.rates.lr", "method.rates.lr"]),
        ("folder", ["method.folder"]),
        ("rates", ["method.rates", "method.rates.lr", "method.rates.steps", "method.rates.lr"]),
        ("slow", ["method.rates", "method.rates.lr", "method.rates.steps", "method.folder"]),
    ],
)
def test_a_key_is_found_by_any_part_of_its_path_and_a_choice_by_its_name(key: str, told: list[str]) -> None:
    lines = [line for line in describe_settings(Method, key).splitlines() if not line.startswith(" ")]
    assert [line.partition(":")[0] for line in lines] == told


def test_an_unknown_key_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"no setting is called 'rate'; did you mean 'rates'\?"):
        describe_settings(Method, "rate")
    with pytest.raises(InputError, match=r"no setting is called 'r.tes'; did you"):  # no pattern
        describe_settings(Method, "r.tes")


def leaves(values: Any, path: tuple[str, ...] = ()) -> set[str]:
    """The dotted paths of all keys in dumped settings."""
    found = {".".join(path)} if path else set()
    if isinstance(values, dict):
        found |= {key for name, value in values.items() for key in leaves(value, (*path, name))}
    return found


@pytest.mark.parametrize("settings", [SweepSettings(), Experiment.model_validate({"strategy": {"name": "clip_reid"}})])
def test_every_key_of_real_settings_is_told_with_a_meaning(settings: Config) -> None:
    text = describe_settings(type(settings)).splitlines()
    keys = [index for index, line in enumerate(text) if not line.startswith(" ")]
    told = {text[index].partition(":")[0] for index in keys}
    tags = {"task.name", "data.source", "strategy.name"}
    assert leaves(settings.model_dump(mode="json")) - tags <= told
    assert all(text[index + 1].startswith(" ") for index in keys)


def test_editors_get_a_schema_that_holds_for_good_settings_and_refuses_bad_ones() -> None:
    schema = json.loads(json_schema(SweepSettings))
    Draft202012Validator.check_schema(schema)
    good = yaml.safe_load(QUICKSTART.read_text())
    checked = Draft202012Validator(schema)
    assert not list(checked.iter_errors(good))
    assert not list(checked.iter_errors(good | {"storage": "s3://bucket/runs"}))
    for bad in (
        {"trails": 5},
        {"trials": 0},
        {"search": {"sampler": "best"}},
        {"data": {"source": "drawn", "peple": 9}},
    ):
        assert list(checked.iter_errors(good | bad)), bad
