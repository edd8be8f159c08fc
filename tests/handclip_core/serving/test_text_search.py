"""Images found by text and by image: against what the model itself says, and what a user may get wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from typer.testing import CliRunner

from handclip_core.__main__ import app
from handclip_core.errors import InputError
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment, context_of
from handclip_core.runs.run_folder import load_run
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
TEXT = "the palm of a left hand with no moles"


@pytest.fixture(scope="module")
def folder(tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both towers, and one of identities, beside some images of theirs."""
    parent = tmp_path_factory.mktemp("search")
    strategies = {
        "captions": {"name": "prolip", "optim": {"lr": 0.01, "batch_size": 16}},
        "identities": {"name": "full"},
    }
    for task, strategy in strategies.items():
        values = {"task": {"name": task}, "strategy": strategy, "data": TINY_DATA, "backbone": tiny_backbones["vit"]}
        train_into(parent / task, Experiment.model_validate(values | {"budget": 1}), device=CPU)
    context = context_of(Experiment.model_validate(values), CPU)
    (parent / "images" / "below").mkdir(parents=True)
    for row in range(6):
        path = context.prepared.paths()[row]
        shutil.copy(path, parent / "images" / ("below" if row % 2 else "") / f"{row}.jpg")
    return parent


def typed(*words: object) -> tuple[int, list[str], Exception | None]:
    result = CliRunner().invoke(app, ["search", *map(str, words)])
    error = result.exception if isinstance(result.exception, InputError) else None
    return result.exit_code, result.stdout.splitlines(), error


def test_a_text_finds_what_its_tower_and_the_images_say(folder: Path) -> None:
    code, lines, _ = typed(folder / "captions", TEXT, "--images", folder / "images", "-k", 4)
    assert code == 0
    model = load_run(folder / "captions", device=CPU)
    context = context_of(Experiment.from_file(folder / "captions" / "config.json"), CPU)
    with torch.no_grad():
        inputs = context.pixel_inputs.of(np.arange(6), device=CPU)
        images = F.normalize(model.embed(inputs, torch.zeros(6, dtype=torch.int64)), dim=1)
        texts = model.read_texts([TEXT])
        assert texts is not None
        cosines = (images @ F.normalize(texts, dim=1).T)[:, 0]
    best = cosines.argsort(descending=True, stable=True)[:4].tolist()
    assert [Path(line.split()[1]).stem for line in lines] == [str(row) for row in best]
    assert [float(line.split()[0]) for line in lines] == pytest.approx(cosines[best].tolist(), abs=1e-3)


def test_an_image_finds_itself_and_a_sheet_is_written(folder: Path, tmp_path: Path) -> None:
    words = ("--images", folder / "images", "--like", folder / "images" / "2.jpg", "--sheet", tmp_path / "a" / "s.jpg")
    for run in ("captions", "identities"):
        code, lines, _ = typed(folder / run, *words)
        assert code == 0
        assert (len(lines), lines[0].split()[0], Path(lines[0].split()[1]).stem) == (6, "1.0000", "2")
    assert Image.open(tmp_path / "a" / "s.jpg").size == (5 * 136 + 8, 2 * 170 + 8)


def test_an_unreadable_image_is_named_and_passed_over(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "images", tmp_path / "images")
    (tmp_path / "images" / "0.jpg").write_bytes(b"no image")
    code, lines, _ = typed(folder / "captions", TEXT, "--images", tmp_path / "images")
    assert (code, len(lines)) == (0, 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("captions", "--images", "images"), "name either a text or --like IMAGE"),
        (("captions", "  ", "--images", "images"), "the text is empty"),
        (("identities", TEXT, "--images", "images"), "not compared with texts; name a run of the task captions"),
        (("captions", TEXT, "--images", "none"), "no such folder"),
        (("none", TEXT, "--images", "images"), "no such folder; name a run"),
        (("images", TEXT, "--images", "images"), r"has no model\.json"),
        (("captions", TEXT, "--images", "captions"), "no image in this folder"),
        (("captions", TEXT, "--images", "images", "--sheet", "sheet.txt"), r"name a \.jpg file"),
        (("captions", "--like", "captions/config.json", "--images", "images"), "config.json"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(folder: Path, words: tuple[str, ...], message: str) -> None:
    names = {"captions", "identities", "images", "none", "captions/config.json"}
    code, lines, error = typed(*(folder / word if word in names else word for word in words))
    assert code != 0
    assert lines == []
    assert error is not None
    with pytest.raises(InputError, match=message):
        raise error
