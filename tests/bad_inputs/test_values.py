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


DEEP = "[" * 60 + "]" * 60
DOCUMENTS = {
    "nothing but a list": ("[1, 2]", "not a mapping"),
    "a word": ("hands", "not a mapping"),
    "a number": ("3", "not a mapping"),
    "two documents": ("seed: 1\n---\nseed: 2\n", "several YAML documents"),
    "a key twice": ("seed: 1\nseed: 2\n", "line 2: 'seed' is given again after line 1"),
    "a key that is a list": ("[a]: 1\n", "a key has to be a word"),
    "half": ("{", "not readable as YAML"),
    "a tab": ("a:\n\t- b\n", "not readable as YAML"),
    "a colon too many": ("seed: 1: 2\n", "not readable as YAML"),
    "a tag": ("seed: !!python/object/apply:os.getpid []\n", "is no plain value"),
    "another tag": ("seed: !mine 3\n", "is no plain value"),
    "a binary": ("seed: !!binary aGFuZHM=\n", "is no plain value"),
    "a set": ("seed: !!set {a, b}\n", "is no plain value"),
    "itself": ("&a {seed: *a}\n", "holds itself"),
    "a name of nothing": ("seed: *a\n", "not readable as YAML"),
    "many names": (
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n"
            for before, name in zip("abcde", "bcdef", strict=True)
        ),
        "too many values",
    ),
    "too deep": (f"seed: {DEEP}\n", "nested too deep"),
    "a leading zero": ("seed: 020\n", "leading zero"),
    "base 60": ("seed: 1:30\n", "base 60"),
    "a number too long": (f"seed: {'9' * 200}\n", "no number for settings"),
    "a NUL": ("seed: \0\n", "not readable"),
    "another encoding": ("séed: 1\n".encode("latin-1"), "not a text in UTF-8"),
    "binary": (bytes(range(256)), "not a text in UTF-8"),
    "too large": (b"#" * (2**20 + 1), "more than the 1,048,576"),
    "an unknown key": ("seeed: 1\n", "unknown key 'seeed'; did you mean 'seed'"),
    "an unknown group": ("sed: {a: 1}\n", "unknown key 'sed'"),
    "a number for a key": ("3: 4\n", "3: Keys should be strings"),
    "no value for a key": ("seed:\n", "seed: None is no whole number"),
}
READERS = {
    "show": "show FILE",
    "train": "train FILE --out out",
    "train-on-cluster": "train-on-cluster FILE --out out",
    "pretrain": "pretrain FILE",
    "sweep": "sweep FILE",
    "sweep --dry-run": "sweep FILE --dry-run",
}


@pytest.mark.parametrize("command", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("text", "said"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents(told: Told, tmp_path: Path, command: str, text: str | bytes, said: str) -> None:
    file = tmp_path / "given.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    told(*command.replace("FILE", str(file)).split()).refusal(f"^error: {file}: ", said)
    assert list((tmp_path / "here").iterdir()) == []


JSONS = {
    "half": ('{"seed": ', "line 1: not readable as JSON"),
    "YAML": ("seed: 1\n", "not readable as JSON"),
    "a key twice": ('{"seed": 1, "seed": 2}', "'seed' is given twice"),
    "a comma too many": ('{"seed": 1,}', "not readable as JSON"),
    "too deep": ("[" * 100_000, "not readable as JSON"),
    "a number too long": (f'{{"seed": {"9" * 5000}}}', "not readable as JSON"),
    "not a number": ('{"seed": NaN}', "seed: nan is no|finite|whole number"),
    "nothing": ("", "not readable as JSON"),
    "a list": ("[]", "not a mapping"),
    "another encoding": ('{"é": 1}'.encode("latin-1"), "not a text in UTF-8"),
}


@pytest.mark.parametrize("command", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("text", "said"), JSONS.values(), ids=JSONS)
def test_documents_in_json(told: Told, tmp_path: Path, command: str, text: str | bytes, said: str) -> None:
    file = tmp_path / "given.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    told(*command.replace("FILE", str(file)).split()).refusal(f"^error: {file}: ", said)
    assert list((tmp_path / "here").iterdir()) == []


OPTIONS = {
    "an unknown command": ("handle", "No such command 'handle'"),
    "an unknown option": ("show --fast", "No such option: --fast"),
    "no argument": ("train --out out", "Missing argument"),
    "no option": ("train a.yaml", "Missing option '--out'"),
    "an option without a value": ("train a.yaml --out", "--out"),
    "an argument too many": ("show a b", "unexpected extra argument"),
    "a device": ("train a --out b --device tpu", "'--device'.*'auto', 'cpu', 'cuda'"),
    "a split": ("evaluate a --split train", "'--split'.*'val', 'test'"),
    "a ranking": ("evaluate a --ranking best", "'--ranking'"),
    "a gallery": ("evaluate a --gallery some", "'--gallery'"),
    "enrolled": ("evaluate a --enrolled two", "'--enrolled'"),
    "a distance": ("evaluate a --distance manhattan", "'--distance'"),
    "fusion": ("ensemble a b --out c --by hand", "'--by'"),
    "an aspect": ("embed a b --out c.npy --aspect thumb", "'--aspect'"),
    "a format": ("export a --to tflite", "'--to'"),
    "people to list": ("identify a b --gallery c --top 0", "'--top'.*greater than or equal to 1"),
    "no number of people": ("identify a b --gallery c --top many", "'--top'.*valid integer"),
    "false accepts": ("identify a b --gallery c --far often", "'--far'.*valid number"),
    "images to find": ("search a b --images c --num 1001", "'--num'|'-k'"),
    "a cut": ("prepare 11k a --out b --cut round", "'--cut'"),
    "a seed": ("prepare folder a --out b --seed -1", "'--seed'"),
    "a seed that is none": ("prepare hd a --out b --seed x", "'--seed'"),
    "people": ("prepare drawn a --out b --people 7", "'--people'"),
    "a height": ("prepare drawn a --out b --height-px 95", "'--height-px'"),
    "images an aspect": ("prepare drawn a --out b --images-per-aspect 1", "'--images-per-aspect'"),
    "sittings": ("prepare drawn a --out b --sittings 0", "'--sittings'"),
    "a share": ("prepare folder a --out b --test-share half", "'--test-share'.*valid number"),
    "trials more": ("sweep a --extend 0", "'--extend'"),
    "no trials more": ("sweep a --extend some", "'--extend'"),
    "top": ("finals a --top 0", "'--top'"),
    "seeds": ("finals a --seeds 0", "'--seeds'"),
    "a look too often": ("watch a --every 0.5", "'--every'"),
    "workers": ("train-on-cluster a --workers 65", "'--workers'"),
    "CPUs": ("train-on-cluster a --cpus 0", "'--cpus'"),
    "GPUs": ("train-on-cluster a --gpus 9", "'--gpus'"),
    "a setting without a value": ("sweep --set trials", "--set 'trials': write key=value"),
    "a setting without a key": ("sweep --set =3", "--set '=3': write key=value"),
    "a key that is none": ("settings lrr", "no setting is called 'lrr'; did you mean 'lr'"),
    "a key of sweeps that is none": ("sweep --settings trails", "did you mean 'trials'"),
}


@pytest.mark.parametrize(("command", "said"), OPTIONS.values(), ids=OPTIONS)
def test_what_is_typed_wrong(told: Told, tmp_path: Path, command: str, said: str) -> None:
    told(*command.split()).refusal(said)
    assert list((tmp_path / "here").iterdir()) == []
