"""Values that a setting may not have: one line that names the key, from the command that reads it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.bad_inputs.conftest import Told, World


class Whole(NamedTuple):
    """A whole number within bounds, both included; ``none`` if it may be left open."""

    low: int
    high: int | None = None
    none: bool = False

    def wrong(self) -> Iterator[object]:
        yield from (self.low - 1, -(10**30), 2.5, "many", True, [3], {"a": 1}, *([] if self.none else [None]))
        if self.high is not None:
            yield self.high + 1


class Real(NamedTuple):
    """A number within bounds; ``open_low`` and ``open_high`` are themselves outside."""

    low: float
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    none: bool = False

    def wrong(self) -> Iterator[object]:
        yield from (self.low if self.open_low else self.low - 0.5, "much", True, [0.5], {"a": 1})
        yield from ("inf", "nan", *([] if self.none else [None]))
        if self.high is not None:
            yield self.high if self.open_high else self.high * 1.5


class Choice(NamedTuple):
    """One of some words."""

    none: bool = False

    def wrong(self) -> Iterator[object]:
        yield from ("other", "", 7, ["a"], {"a": 1}, *([] if self.none else [None]))


class YesOrNo(NamedTuple):
    """True or false."""

    def wrong(self) -> Iterator[object]:
        yield from ("perhaps", 7, [True], {"a": 1}, None)


class Listing(NamedTuple):
    """A list."""

    def wrong(self) -> Iterator[object]:
        yield from ("all", 3, {"a": 1}, None, [{"a": 1}], [[]])


class Mapping(NamedTuple):
    """Keys with values."""

    def wrong(self) -> Iterator[object]:
        yield from ("all", 3, ["a"], None)


class Tagged(NamedTuple):
    """A group that says by a word which one it is."""

    def wrong(self) -> Iterator[object]:
        yield from ("all", 3, ["a"], None, {}, {"a": 1}, {"name": "other"}, {"source": "other"}, {"name": 3})


class Words(NamedTuple):
    """A text."""

    none: bool = False

    def wrong(self) -> Iterator[object]:
        yield from (3, ["a"], {"a": 1}, *([] if self.none else [None]))


Kind = Whole | Real | Choice | YesOrNo | Listing | Mapping | Tagged | Words
SWEEP: dict[str, Kind] = {
    "name": Words(),
    "task": Tagged(),
    "data": Tagged(),
    "data.aspects": Listing(),
    "data.gallery": Choice(),
    "data.enrolled": Choice(),
    "data.distance": Choice(),
    "data.people": Whole(8),
    "data.images_per_aspect": Whole(2, 200),
    "data.height_px": Whole(96, 2400),
    "data.sittings": Whole(1, 200),
    "data.seed": Whole(0),
    "backbone.name": Words(),
    "backbone.pretrained": Words(none=True),
    "backbone.batch_norm": Choice(),
    "backbone.framing": Choice(),
    "backbone.recompute": YesOrNo(),
    "backbone.image_px": Whole(16, 4096, none=True),
    "strategies": Listing(),
    "trials": Whole(1),
    "budget": Whole(1, 100_000),
    "precision": Choice(),
    "seed": Whole(0, 2**31 - 1),
    "search.sampler": Choice(),
    "search.startup_trials": Whole(1),
    "search.strategy_bandit": Choice(),
    "search.points": Listing(),
    "search.ranges": Mapping(),
    "search.fixed": Mapping(),
    "search.replicas": Whole(1, 100),
    "search.objectives": Listing(),
    "search.power_analysis": YesOrNo(),
    "search.storage": Words(none=True),
    "early_stopping.kind": Choice(),
    "early_stopping.grace": Whole(1),
    "early_stopping.reduction": Whole(2, 20),
    "resources.device": Choice(),
    "resources.cpus": Whole(1),
    "resources.gpus": Real(0, 8, open_low=True),
    "resources.workers": Whole(1, 64),
    "resources.concurrent": Whole(1, none=True),
    "resources.waiting": Whole(0, 1000),
    "limits.hours": Real(0, open_low=True, none=True),
    "limits.gpu_hours": Real(0, open_low=True, none=True),
    "limits.price_per_gpu_hour": Real(0, none=True),
    "limits.disk_gib": Real(0, open_low=True, none=True),
    "retries": Whole(0),
    "stall_minutes": Real(0, open_low=True),
    "keep_checkpoints": Whole(1),
    "mixtures": YesOrNo(),
    "checkpoint_every_s": Real(0),
    "tracking.mlflow": Words(none=True),
    "tracking.wandb": Choice(none=True),
    "warm_start": Words(none=True),
    "storage": Words(),
    **{group: Mapping() for group in ("search", "early_stopping", "resources", "limits", "tracking")},
}
EXPERIMENT: dict[str, Kind] = {
    "strategy": Tagged(),
    "task": Tagged(),
    "data": Tagged(),
    "seed": Whole(0, 2**31 - 1),
    "budget": Whole(1, 100_000),
    "micro_batch": Whole(1, 65536, none=True),
    "precision": Choice(),
    "keep_every": Whole(1, none=True),
    "keep_stages": YesOrNo(),
    "eval_every": Whole(1),
    "patience": Whole(1, none=True),
    "part": Choice(),
    "strategy.templates": Choice(),
    "strategy.neck.kind": Choice(),
    "strategy.neck.dim": Whole(2, 8192),
    "strategy.neck.source": Choice(),
    "strategy.neck.readout.pool": Choice(),
    "strategy.neck.readout.grid": Whole(1, 16),
    "strategy.neck.readout.power": Real(1, 20),
    "strategy.neck.embedding": Choice(),
    "strategy.neck.metric.kind": Choice(),
    "strategy.neck.metric.dim": Whole(2, 2048, none=True),
    "strategy.labels": Choice(),
    "strategy.optim.lr": Real(0, 1, open_low=True),
    "strategy.optim.weight_decay": Real(0, 1),
    "strategy.optim.batch_size": Whole(2, 4096),
    "strategy.optim.schedule": Choice(),
    "strategy.optim.drops": Listing(),
    "strategy.optim.drop_factor": Real(0, 1, open_low=True),
    "strategy.optim.warmup": Real(0, 1, open_high=True),
    "strategy.optim.clip_norm": Real(0, open_low=True, none=True),
    "strategy.optim.ema": Real(0, 1, open_high=True),
    "strategy.losses.identity.weight": Real(0, 1000),
    "strategy.losses.identity.smoothing": Real(0, 1, open_high=True),
    "strategy.losses.identity.kind": Choice(),
    "strategy.losses.identity.margin": Real(0, 1.5),
    "strategy.losses.identity.scale": Real(0, 1000, open_low=True),
    "strategy.losses.triplet.margin": Real(0, 10, open_low=True),
    "strategy.losses.triplet.mining": Choice(),
    "strategy.losses.circle.scale": Real(0, 512, open_low=True),
    "strategy.losses.contrastive.kind": Choice(),
    "strategy.losses.contrastive.temperature": Real(0.01, 10),
    "strategy.losses.memory": Whole(0, 1_000_000),
    "strategy.losses.on": Choice(),
    "strategy.losses.unit_length": YesOrNo(),
    "strategy.head_lr_scale": Real(0, 10_000, open_low=True),
    "strategy.sampler.kind": Choice(),
    "strategy.sampler.images_each": Whole(2, 64),
    "strategy.augment.rotation_deg": Real(0, 180),
    "strategy.augment.scale": Real(0, 1, open_high=True),
    "strategy.augment.shift": Real(0, 0.5),
    "strategy.augment.flip": YesOrNo(),
    "strategy.rates": Choice(),
    "strategy.layer_decay": Real(0, 1, open_low=True),
    "strategy.frozen_blocks": Whole(0, 64),
    "strategy.frozen_projection": YesOrNo(),
    "strategy.pull": Real(0, 1_000_000),
}
PRETRAIN: dict[str, Kind] = {
    "seed": Whole(0),
    "people": Whole(2),
    "images_per_aspect": Whole(2),
    "held_out_people": Whole(2),
    "draw_px": Whole(32),
    "workers": Whole(1, none=True),
    "steps": Whole(1, 9_999_999),
    "batch": Whole(8),
    "lr": Real(0, open_low=True),
    "weight_decay": Real(0),
    "warmup_steps": Whole(0),
    "temperature": Real(0, open_low=True),
    "name_share": Real(0, 1),
    "strength": Real(0, 1),
    "averaging": Real(0, 1, open_high=True),
    "precision": Choice(),
    "checkpoint_every": Whole(1),
}


def cases(settings: dict[str, Kind]) -> list[object]:
    """Every key with each value that it may not have."""
    return [
        pytest.param(key, value, id=f"{key}={shown(value)}") for key, kind in settings.items() for value in kind.wrong()
    ]


def shown(value: object) -> str:
    """``value`` as YAML and JSON have it."""
    return {"inf": ".inf", "nan": ".nan"}.get(str(value), json.dumps(value))


def nested(key: str, value: object) -> dict[str, Any]:
    """``value`` below the parts of ``key``."""
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


@pytest.mark.parametrize(("key", "value"), cases(SWEEP))
def test_of_a_sweep(told: Told, world: World, key: str, value: object) -> None:
    line = told("sweep", world["sweep.yaml"], "--set", f"{key}={shown(value)}").refusal()
    assert key.split(".")[-1] in line


@pytest.mark.parametrize(("key", "value"), cases(EXPERIMENT))
def test_of_an_experiment(told: Told, tmp_path: Path, key: str, value: object) -> None:
    file, given = tmp_path / "experiment.yaml", nested(key, "VALUE")
    if key.startswith("strategy."):
        given["strategy"]["name"] = "full"
    file.write_text(json.dumps({"strategy": {"name": "full"}} | given).replace('"VALUE"', shown(value)))
    told("train", file, "--out", tmp_path / "out").refusal(f"^error: {file}: .*{key.split('.')[-1]}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("key", "value"), cases(PRETRAIN))
def test_of_pretraining(told: Told, tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "pretrain.yaml"
    file.write_text(json.dumps({"out": str(tmp_path / "out"), key: "VALUE"}).replace('"VALUE"', shown(value)))
    told("pretrain", file).refusal(f"^error: {file}: .*{key}")
    assert not (tmp_path / "out").exists()
