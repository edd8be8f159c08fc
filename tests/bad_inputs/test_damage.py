"""Files that were damaged, for every command that reads them: refused by name in one line."""

import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.bad_inputs.conftest import Told, World
from tests.payload import Payload


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nothing"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _bit(share: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(len(data) * share)] ^= 4
        path.write_bytes(bytes(data))

    return flip


Damage = Callable[[Path], object]
ANY: dict[str, Damage] = {
    "removed": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "other bytes": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "a folder": _folder,
    "a loop": _loop,
    "a link to nothing": _dangling,
    "a pipe": _pipe,
}
OF_JSON = ANY | {
    "a list": lambda path: path.write_text("[]"),
    "no keys": lambda path: path.write_text("{}"),
    "a number": lambda path: path.write_text("7"),
    "null": lambda path: path.write_text("null"),
    "an unknown key": lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"unknown": 1})),
    "every value null": lambda path: path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text())))),
}
OF_YAML = ANY | {
    "a list": lambda path: path.write_text("[]"),
    "a number": lambda path: path.write_text("7"),
    "an unknown key": lambda path: path.write_text(path.read_text() + "unknown: 1\n"),
    "every value null": lambda path: path.write_text(json.dumps(dict.fromkeys(yaml.safe_load(path.read_text())))),
    "a key twice": lambda path: path.write_text(path.read_text() + "name: again\n"),
}
OF_WEIGHTS = ANY | {
    "a bit at a third": _bit(0.33),
    "a bit at half": _bit(0.5),
    "a bit at two thirds": _bit(0.67),
    "text": lambda path: path.write_text("weights"),
    "a pickle that runs something": lambda path: path.write_bytes(pickle.dumps(Payload(path.with_name("ran")))),
    "a pickle in torch's format": lambda path: torch.save(Payload(path.with_name("ran")), path),
    "an archive of nothing": lambda path: zipfile.ZipFile(path, "w").close(),
    "a list": lambda path: torch.save([1, 2], path),
    "no tensors": lambda path: torch.save({}, path),
    "other tensors": lambda path: torch.save({"other": torch.zeros(3)}, path),
    "a tensor": lambda path: torch.save(torch.zeros(3), path),
}

USES = {
    "evaluate": "evaluate run",
    "compare": "compare run",
    "embed": "embed run {people} --out vectors.npy",
    "enrol": "enrol run {people} --to new",
    "identify": "identify run {people} --gallery {gallery}",
    "verify": "verify run {image.jpg} {image.jpg}",
    "calibrate": "calibrate run {people}",
    "export": "export run --to safetensors --out new",
    "ensemble": "ensemble run {run} --out new",
    "search": "search run --images {people} --like {image.jpg}",
}
"""What reads a run."""
NEED_MODEL = {name: command for name, command in USES.items() if name not in ("evaluate", "compare")}


NEED_VALIDATION = {name: command for name, command in NEED_MODEL.items() if name != "ensemble"}
COMMANDS_IN_EVERY_RUN = 2
NOT_THERE = {"removed", "a loop", "a link to nothing", "no keys"}
"""A run without what it scored on validation identities is used without thresholds."""


def cases(commands: dict[str, str], files: dict[str, dict[str, Damage]]) -> list[object]:
    """Each command with each damage of each file; of the first two commands in every run of the tests."""
    return [
        pytest.param(
            *(command, file, damage),
            id=f"{name}: {file}, {kind}",
            marks=[] if place < COMMANDS_IN_EVERY_RUN else [pytest.mark.faults],
        )
        for place, (name, command) in enumerate(commands.items())
        for file, damages in files.items()
        for kind, damage in damages.items()
    ]


def words_of(command: str, world: World) -> list[str]:
    """The words of ``command`` with the good inputs that it names put in."""
    return [re.sub(r"\{(.+)\}", lambda found: world[found[1]], word) for word in command.split()]


def refuse(told: Told, words: list[str], damaged: Path, *said: str) -> str:
    """The line that refuses, which names the file, or the folder that lacks it; no payload may have run."""
    where = Path(os.path.relpath(damaged))
    folder = "" if where.parent == Path() else rf"|(?<!\w){re.escape(str(where.parent))}(?=[:/])"
    named = f"{re.escape(damaged.name)}{folder}"
    line = told(*words).refusal(named, *said)
    assert not damaged.with_name("ran").exists()
    return line


@pytest.mark.parametrize(
    ("command", "file", "damage"),
    cases(USES, {"config.json": OF_JSON, "handclip_best.pth": OF_WEIGHTS})
    + cases(NEED_MODEL, {"model.json": {"removed": ANY["removed"]}})
    + cases(NEED_VALIDATION, {"validation.json": {kind: OF_JSON[kind] for kind in OF_JSON if kind not in NOT_THERE}}),
)
def test_a_run(told: Told, world: World, command: str, file: str, damage: Damage) -> None:
    shutil.copytree(world["run"], "run")
    damage(Path("run", file))
    refuse(told, words_of(command, world), Path("run", file).absolute())
    assert not list(Path().glob("new/*"))


GALLERIES = {
    "identify": "identify {run} {people} --gallery gallery",
    "enrol": "enrol {run} {people} --to gallery",
}
OF_TABLE = ANY | {
    "another head": lambda path: path.write_text("a,b,c\n1,2,3\n"),
    "a row less": lambda path: path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n"),
    "a row more": lambda path: path.write_text(path.read_text() + "x,y,z\n"),
    "a field more": lambda path: path.write_text(path.read_text().replace("\n", ",more\n")),
}
OF_ARRAY = ANY | {
    "a bit": _bit(0.9),
    "text": lambda path: path.write_text("1 2 3"),
    "a pickle that runs something": lambda path: path.write_bytes(pickle.dumps(Payload(path.with_name("ran")))),
}


@pytest.mark.parametrize(
    ("command", "file", "damage"),
    cases(GALLERIES, {"gallery.json": OF_JSON, "images.csv": OF_TABLE, "embeddings.npy": OF_ARRAY}),
)
def test_a_gallery(told: Told, world: World, command: str, file: str, damage: Damage) -> None:
    shutil.copytree(world["gallery"], "gallery")
    damage(Path("gallery", file))
    refuse(told, words_of(command, world), Path("gallery", file).absolute())


DATA = {
    "prepare check": "prepare check prepared",
    "train": "train given.json --out new",
    "sweep": "sweep {sweep.yaml} --set data.source=prepared --set data.folder=prepared",
    "sweep --dry-run": "sweep {sweep.yaml} --set data.source=prepared --set data.folder=prepared --dry-run",
}


@pytest.mark.parametrize(
    ("command", "file", "damage"),
    cases(DATA, {"protocol.json": OF_JSON | {"a bit": _bit(0.5)}, "manifest.csv": OF_TABLE | {"a bit": _bit(0.5)}}),
)
def test_prepared_data(told: Told, world: World, command: str, file: str, damage: Damage) -> None:
    shutil.copytree(world["prepared"], "prepared")
    values = {"strategy": {"name": "zero_shot"}, "data": {"source": "prepared", "folder": "prepared"}}
    Path("given.json").write_text(json.dumps(values))
    damage(Path("prepared", file))
    refuse(told, words_of(command, world), Path("prepared", file).absolute())
    assert not Path("new").exists()


SWEEPS = {
    "--resume": "sweep runs/tiny --resume",
    "--extend": "sweep runs/tiny --extend 1",
    "--export": "sweep runs/tiny --export",
    "--fork": "sweep --fork runs/tiny --name other",
    "--warm-start": "sweep {sweep.yaml} --warm-start runs/tiny",
    "finals": "finals tiny",
    "review": "review tiny",
    "watch": "watch tiny --once",
}
OF_JOURNAL = {kind: damage for kind, damage in ANY.items() if kind != "a pipe"} | {
    "a bit": _bit(0.5),
    "a line gone": lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[1:])),
    "a line twice": lambda path: path.write_text(
        "".join(line for line in path.read_text().splitlines(keepends=True)[:1] for _ in range(2))
    ),
    "a value edited": lambda path: path.write_text(path.read_text().replace("0.75", "0.99")),
}
SETTINGS_NEEDED = {name: command for name, command in SWEEPS.items() if name != "--warm-start"}


@pytest.mark.parametrize(
    ("command", "file", "damage"),
    cases(SWEEPS, {"journal.jsonl": OF_JOURNAL}) + cases(SETTINGS_NEEDED, {"sweep.yaml": OF_YAML}),
)
def test_a_sweep(told: Told, world: World, command: str, file: str, damage: Damage) -> None:
    shutil.copytree(world["runs"], "runs")
    damage(Path("runs/tiny", file))
    refuse(told, words_of(command, world), Path("runs/tiny", file).absolute())


LOADERS = {
    "show": "show given.json",
    "train": "train given.json --out new",
    "sweep": "sweep {sweep.yaml} --set backbone.pretrained=weights.pt",
    "sweep --dry-run": "sweep {sweep.yaml} --set backbone.pretrained=weights.pt --dry-run",
}


@pytest.mark.parametrize(("command", "file", "damage"), cases(LOADERS, {"weights.pt": OF_WEIGHTS}))
def test_weights_that_a_user_names(told: Told, world: World, command: str, file: str, damage: Damage) -> None:
    given = yaml.safe_load(Path(world["experiment.yaml"]).read_text())
    given["backbone"] |= {"pretrained": file}
    Path("given.json").write_text(json.dumps(given))
    weights = torch.load(Path(world["run"], "handclip_final.pth"), weights_only=True)
    torch.save({name.removeprefix("backbone."): value for name, value in weights.items()}, file)
    damage(Path(file))
    refuse(told, words_of(command, world), Path(file).absolute())
    assert not Path("new").exists()
