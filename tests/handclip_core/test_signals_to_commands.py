"""Signals to whole commands, at every moment: code, one line, no traceback, no process left."""

import os
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from PIL import Image

from handclip_core.models.backbone import BackboneSettings
from tests.signalled import SENT, Running, end_at


class Moment(NamedTuple):
    """A command, and what is there once it has got so far."""

    command: str
    reached: Callable[[Running], bool]


def imports(running: Running) -> bool:
    """Whether a command imports what takes long."""
    return running.imports("numpy")


def has_workers(running: Running) -> bool:
    """Whether a command's pool of processes is there."""
    return running.runs("spawn_main")


def reads_photos(running: Running) -> bool:
    """Whether a command reads an image."""
    return running.opens(running.folder / PHOTOS)


PHOTOS, TABLE = "photos", "photos.csv"
DRAW, FOLDER = "prepare drawn hands --out prepared --people 400", f"prepare folder {PHOTOS} --out prepared"
MOMENTS = {
    "prepare drawn imports": Moment(DRAW, imports),
    "prepare drawn draws": Moment(DRAW, lambda it: it.said("drawing images")),
    "prepare folder reads": Moment(FOLDER, reads_photos),
    "prepare folder with a table reads": Moment(f"{FOLDER} --table {TABLE}", reads_photos),
    "train imports": Moment("train experiment.yaml --out run", lambda it: it.imports("torch")),
    "train trains": Moment("train experiment.yaml --out run", lambda it: it.said("unit 1/")),
    "pretrain draws": Moment("pretrain pretrain.yaml", lambda it: it.log.read_text() != "" and has_workers(it)),
}
IN_EVERY_RUN = {("prepare drawn draws", "SIGTERM to the group"), ("train trains", "SIGINT to the group")}


@pytest.fixture
def here(tmp_path: Path, tiny_backbones: dict[str, BackboneSettings]) -> Path:
    """A folder with what the commands read."""
    backbone = tiny_backbones["vit"].model_dump(mode="json")
    data = {"source": "drawn", "people": 12, "images_per_aspect": 3, "height_px": 96}
    experiment = {"strategy": {"name": "full"}, "data": data, "backbone": backbone, "budget": 10_000}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump({"out": "own", "workers": 2}))
    _write_photos(tmp_path)
    return tmp_path


def _write_photos(folder: Path) -> None:
    """Images that take seconds to read, in folders of their identities and in a table."""
    made = BytesIO()
    Image.new("RGB", (400, 300), "tan").save(made, "PNG")
    names = [f"{identity:02}/{image}.png" for identity in range(10) for image in range(3)]
    for name in names:
        (file := folder / PHOTOS / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(made.getvalue() + name.encode())  # what comes after the image keeps them apart
        os.truncate(file, 100 * 2**20)
    rows = [f"{name},{name.partition('/')[0]}" for name in names]
    (folder / TABLE).write_text("\n".join(["path,identity", *rows]))


CASES = [
    pytest.param(
        moment, sent, id=f"{moment}: {sent}", marks=[] if (moment, sent) in IN_EVERY_RUN else [pytest.mark.faults]
    )
    for moment in MOMENTS
    for sent in SENT
]


@pytest.mark.parametrize(("moment", "sent"), CASES)
def test_a_command_ends_at_once_and_leaves_nothing_running(here: Path, moment: str, sent: str) -> None:
    command, reached = MOMENTS[moment]
    program = [sys.executable, "-m", "handclip_core", *command.split()]
    said = end_at(moment, reached, sent, program, log=here / "said", folder=here)
    assert said.splitlines()[-1].startswith("interrupted"), said
