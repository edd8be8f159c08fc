"""Paths that cannot be used, for every argument of every command: one line before the work, and nothing is left."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.bad_inputs.conftest import Told, World, contents


class Fault(NamedTuple):
    """A path that cannot be used: how it is made in a folder, and what is said of it."""

    make: Callable[[Path], str]
    said: str


def _file(folder: Path) -> str:
    (folder / "file.json").write_bytes(b"abc")
    return str(folder / "file.json")


def _dangling(folder: Path) -> str:
    (folder / "link.json").symlink_to(folder / "nothing")
    return str(folder / "link.json")


def _loop(folder: Path) -> str:
    (folder / "loop.json").symlink_to(folder / "loop.json")
    return str(folder / "loop.json")


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe.json")
    return str(folder / "pipe.json")


def _folder(folder: Path) -> str:
    (folder / "folder.json").mkdir()
    return str(folder / "folder.json")


MISSING = r"no such (file|folder)|is no sweep's folder|no sweep"
NO_PATH: dict[str, Fault] = {
    "below a file": Fault(lambda folder: f"{_file(folder)}/x.json", "lies below a file"),
    "below a pipe": Fault(lambda folder: f"{_pipe(folder)}/x.json", "lies below a file"),
    "below a device": Fault(lambda _: "/dev/null/x.json", "lies below a file"),
    "a name too long": Fault(lambda folder: f"{folder}/{'x' * 256}.json", "the name is too long"),
    "a path too long": Fault(lambda folder: f"{folder}/{'y/' * 2100}x.json", "the name is too long"),
    "line end": Fault(lambda _: "a\nb.json", "holds a control character"),
    "loop": Fault(_loop, "round in a loop|is a link"),
    "below a loop": Fault(lambda folder: f"{_loop(folder)}/x.json", "round in a loop|is a link"),
    "empty": Fault(lambda _: "", "an empty text is no path|is empty|is neither a folder"),
    "blank": Fault(lambda _: " ", r"an empty text is no path|ends in none|name a \.jpg"),
    "no such user": Fault(lambda _: "~no_such_user/x.json", "no such user or variable"),
    "no such variable": Fault(lambda _: "$NO_SUCH_VARIABLE/x.json", "no such user or variable"),
    "other bytes": Fault(lambda folder: f"{folder}/a\udcff.json", "no text in UTF-8"),
}
"""Nothing can be so named, whether it is to be read or written."""
NOT_THERE = {
    "missing": Fault(lambda folder: str(folder / "none.json"), MISSING),
    "missing folder": Fault(lambda folder: str(folder / "none" / "x.json"), MISSING),
    "dangling": Fault(_dangling, MISSING),
}
NO_FILE = NOT_THERE | {
    "folder": Fault(_folder, "is a folder, not a file"),
    "device": Fault(lambda _: "/dev/null", "is no plain file"),
    "pipe": Fault(_pipe, "is no plain file"),
    "not readable": Fault(lambda _: "/proc/self/mem", "cannot be read"),
}
BY_NAME = {kind: fault for kind, fault in NO_FILE.items() if kind not in ("device", "not readable")}
"""For files that are told by their endings."""
NO_FOLDER = NOT_THERE | {
    "file": Fault(_file, "is a file, not a folder"),
    "device": Fault(lambda _: "/dev/null", "is a file, not a folder"),
    "pipe": Fault(_pipe, "is a file, not a folder"),
    "empty folder": Fault(_folder, "empty folder"),
}
NOT_WRITABLE = {
    "file": Fault(_file, "is a file, not a folder"),
    "device": Fault(lambda _: "/dev/null", "is a file, not a folder"),
    "pipe": Fault(_pipe, "is a file, not a folder"),
    "dangling": Fault(_dangling, "is a link to nothing"),
    "below dangling": Fault(lambda folder: f"{_dangling(folder)}/x", "is a link to nothing"),
    "proc": Fault(lambda _: "/proc/hands", "nothing can be written in /proc|no permission"),
    "sys": Fault(lambda _: "/sys/hands", "no permission|nothing can be written|read-only"),
}

FILES = {
    "show EXPERIMENT": "show {bad}",
    "train EXPERIMENT": "train {bad} --out out",
    "train-on-cluster EXPERIMENT": "train-on-cluster {bad} --out out",
    "pretrain SETTINGS": "pretrain {bad}",
    "verify ONE": "verify {run} {bad} {image.jpg}",
    "verify OTHER": "verify {run} {image.jpg} {bad}",
    "search --like": "search {run} --images {people} --like {bad}",
    "prepare classes --table": "prepare classes {people} --out out --table {bad}",
    "prepare classes --names": "prepare classes {people} --out out --names {bad}",
    "prepare folder --table": "prepare folder {people} --out out --table {bad}",
    "sweep SETTINGS": "sweep {bad}",
    "sweep SETTINGS --dry-run": "sweep {bad} --dry-run",
}
ANNOTATIONS = {"prepare captions --annotations": "prepare captions {people} --out out --annotations {bad}"}
FOLDERS = {
    "evaluate RUN": "evaluate {bad}",
    "compare RUN": "compare {bad}",
    "compare SECOND": "compare {run} {bad}",
    "ensemble RUN": "ensemble {bad} {run} --out out",
    "ensemble SECOND": "ensemble {run} {bad} --out out",
    "search RUN": "search {bad} hand --images {people}",
    "search --images": "search {run} --images {bad} --like {image.jpg}",
    "embed RUN": "embed {bad} {people} --out out.npy",
    "enrol RUN": "enrol {bad} {people} --to out",
    "enrol FOLDER": "enrol {run} {bad} --to out",
    "identify RUN": "identify {bad} {people} --gallery {gallery}",
    "identify --gallery": "identify {run} {people} --gallery {bad}",
    "verify RUN": "verify {bad} {image.jpg} {image.jpg}",
    "calibrate RUN": "calibrate {bad} {people}",
    "calibrate FOLDER": "calibrate {run} {bad}",
    "export RUN": "export {bad} --to safetensors --out out",
    "prepare 11k": "prepare 11k {bad} --out out",
    "prepare hd": "prepare hd {bad} --out out",
    "prepare folder": "prepare folder {bad} --out out",
    "prepare folder, a table": "prepare folder {bad} --out out --table {table.csv}",
    "prepare classes": "prepare classes {bad} --out out",
    "prepare classes, a table": "prepare classes {bad} --out out --table {table.csv}",
    "prepare captions": "prepare captions {bad} --out out",
    "prepare captions, a file": "prepare captions {bad} --out out --annotations {captions.json}",
    "prepare check": "prepare check {bad}",
    "sweep, prepared data": "sweep {sweep.yaml} --set data.source=prepared --set data.folder={bad:json}",
    "sweep, a local backbone": "sweep {sweep.yaml} --set backbone.name={bad:local}",
    "train, prepared data": "train {bad:data} --out out",
}
SWEEPS = {
    "sweep --resume": "sweep {bad} --resume",
    "sweep --extend": "sweep {bad} --extend 1",
    "sweep --export": "sweep {bad} --export",
    "sweep --fork": "sweep --fork {bad}",
    "sweep --warm-start": "sweep {sweep.yaml} --warm-start {bad}",
    "sweep, warm_start": "sweep {sweep.yaml} --set warm_start={bad:json}",
    "finals NAME": "finals {bad}",
    "review NAME": "review {bad}",
    "watch NAME": "watch {bad}",
}
STORAGES = {
    "finals --storage": "finals tiny --storage {bad}",
    "review --storage": "review tiny --storage {bad}",
    "watch --storage": "watch tiny --storage {bad}",
}
OUTPUTS = {
    "train --out": "train {experiment.yaml} --out {bad}",
    "train-on-cluster --out": "train-on-cluster {experiment.yaml} --out {bad}",
    "compare --out": "compare {run} --out {bad}",
    "ensemble --out": "ensemble {run} {run} --out {bad}",
    "search --sheet": "search {run} --images {people} --like {image.jpg} --sheet {bad:jpg}",
    "embed --out": "embed {run} {people} --out {bad:npy}",
    "enrol --to": "enrol {run} {people} --to {bad}",
    "identify --out": "identify {run} {people} --gallery {gallery} --out {bad}",
    "export --out": "export {run} --to safetensors --out {bad}",
    "pretrain, out": "pretrain {bad:pretrain}",
    "prepare drawn ROOT": "prepare drawn {bad} --out out --people 8 --height-px 96 --images-per-aspect 2",
    "prepare drawn --out": "prepare drawn hands --out {bad} --people 8 --height-px 96 --images-per-aspect 2",
    "prepare 11k --out": "prepare 11k {hands} --out {bad}",
    "prepare hd --out": "prepare hd {hands} --out {bad}",
    "prepare folder --out": "prepare folder {people} --out {bad}",
    "prepare classes --out": "prepare classes {people} --out {bad}",
    "prepare captions --out": "prepare captions {people} --out {bad}",
    "review --out": "review {runs/tiny} --out {bad}",
    "sweep, storage": "sweep {sweep.yaml} --set storage={bad:json}",
    "sweep --fork, storage": "sweep --fork {runs/tiny} --name other --set storage={bad:json}",
}

MAKERS: dict[str, Callable[[str, Path], str]] = {
    "json": lambda bad, _: json.dumps(bad),
    "local": lambda bad, _: json.dumps(f"local-dir:{bad}"),
    "jpg": lambda bad, _: f"{bad}/found.jpg" if bad.strip() else bad,
    "npy": lambda bad, _: f"{bad}/vectors.npy" if bad.strip() else bad,
    "pretrain": lambda bad, here: settings_file(here, {"out": bad}),
    "data": lambda bad, here: settings_file(
        here, {"strategy": {"name": "zero_shot"}, "data": {"source": "prepared", "folder": bad}}
    ),
}
"""How the path gets into a word of the command line, or into a settings file that the command line names."""


def settings_file(folder: Path, values: dict[str, object]) -> str:
    (folder / "settings.json").write_text(json.dumps(values))
    return str(folder / "settings.json")


def words_of(command: str, bad: str, world: World, folder: Path) -> list[str]:
    """The words of ``command`` with ``{bad}`` and the good inputs that it names put in."""

    def put(name: str) -> str:
        kind, _, maker = name.partition(":")
        if kind != "bad":
            return world[name]
        return MAKERS[maker](bad, folder) if maker else bad

    return [re.sub(r"\{([\w./-]+(?::\w+)?)\}", lambda found: put(found[1]), word) for word in command.split()]


def cases(commands: dict[str, str], faults: dict[str, Fault]) -> list[object]:
    """Each command with each fault."""
    return [
        pytest.param(command, fault, id=f"{name}: {kind}")
        for name, command in commands.items()
        for kind, fault in faults.items()
    ]


def refuse(told: Told, world: World, folder: Path, command: str, fault: Fault, *words: str) -> None:
    made = folder / "made"
    made.mkdir()
    typed = words_of(command, fault.make(made), world, made)
    before = contents(folder)
    told(*typed).refusal(fault.said, *words)
    assert contents(folder) == before


@pytest.mark.parametrize(("command", "fault"), cases(FILES, NO_PATH | NO_FILE) + cases(ANNOTATIONS, NO_PATH | BY_NAME))
def test_a_file_that_cannot_be_read(told: Told, world: World, tmp_path: Path, command: str, fault: Fault) -> None:
    refuse(told, world, tmp_path, command, fault)


@pytest.mark.parametrize(("command", "fault"), cases(FOLDERS, NO_PATH | NO_FOLDER))
def test_a_folder_that_cannot_be_read(told: Told, world: World, tmp_path: Path, command: str, fault: Fault) -> None:
    refuse(told, world, tmp_path, command, fault)


OTHERWISE = f"{MISSING}|not a mapping|not readable as JSON|is no plain file"
NO_SWEEP = {kind: Fault(fault.make, f"{fault.said}|{OTHERWISE}") for kind, fault in (NO_PATH | NO_FOLDER).items()}
"""Whatever else is there, it is no sweep."""


@pytest.mark.parametrize(("command", "fault"), cases(SWEEPS | STORAGES, NO_SWEEP))
def test_a_sweep_that_is_none(told: Told, world: World, tmp_path: Path, command: str, fault: Fault) -> None:
    refuse(told, world, tmp_path, command, fault)


@pytest.mark.parametrize(("command", "fault"), cases(OUTPUTS, NO_PATH | NOT_WRITABLE))
def test_a_folder_that_cannot_be_written_to(
    told: Told, world: World, tmp_path: Path, command: str, fault: Fault, request: pytest.FixtureRequest
) -> None:
    option = request.node.callspec.id.split(": ")[0].split()[-1]
    refuse(told, world, tmp_path, command, fault, f"{option}: |is empty|{option} +: name a")
