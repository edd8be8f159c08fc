"""Finished runs in use: the embeddings of training, without data and pretrained weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handclip_core.data.images import BadImageError
from handclip_core.errors import InputError
from handclip_core.runs.model_file import MODEL_FILE
from handclip_core.runs.run_folder import BEST
from handclip_core.serving.images import decode
from handclip_core.serving.model import open_run
from tests.handclip_core.serving.conftest import STRATEGIES, FinishedRun

pytestmark = pytest.mark.usefixtures("no_data")


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_opens_without_data_and_embeds_as_in_training(name: str, finished: FinishedRun) -> None:
    run = finished(name)
    model = open_run(run.folder)
    found = model.embed(run.files)
    # Updates are merged into the weights, which rounds.
    np.testing.assert_allclose(found, run.embeddings, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_arrays_and_bytes_give_the_embeddings_of_the_files(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished("full")
    model, file = open_run(run.folder), run.files[0]
    of_file = model.embed([file])
    arrays = [decode(file, size_px=model.size_px, frame=model.frame)]
    np.testing.assert_array_equal(model.embed([file.read_bytes()]), of_file)
    np.testing.assert_array_equal(model.embed(arrays), of_file)
    Image.open(file).convert("RGB").save(tmp_path / "whole.png")
    with Image.open(tmp_path / "whole.png") as whole:
        np.testing.assert_array_equal(model.embed([np.asarray(whole)]), model.embed([tmp_path / "whole.png"]))


@pytest.mark.parametrize("wrong", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((2, 9, 3), np.uint8)])
def test_an_array_that_is_no_image(wrong: np.ndarray, finished: FinishedRun) -> None:
    with pytest.raises(BadImageError, match=r"uint8 \[H, W, 3\]|no side"):
        open_run(finished("full").folder).embed([wrong])


def test_no_images_give_no_embeddings(finished: FinishedRun) -> None:
    model = open_run(finished("full").folder)
    assert model.embed([]).shape == (0, model.width)


def test_the_hash_is_that_of_the_weights_wherever_they_are(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished("full").folder
    shutil.copytree(run, tmp_path / "copy")
    assert open_run(tmp_path / "copy").hash == open_run(run).hash != open_run(finished("lora").folder).hash
    state = torch.load(run / BEST, weights_only=True)
    name = next(name for name in state if name.startswith("backbone.visual"))
    state[name] = state[name] + 1e-3
    torch.save(state, tmp_path / "copy" / BEST)
    assert open_run(tmp_path / "copy").hash != open_run(run).hash


def test_folders_that_hold_no_finished_run(finished: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder; name the folder of a finished run"):
        open_run(tmp_path / "nothing")
    shutil.copytree(finished("full").folder, tmp_path / "run")
    shutil.copy(finished("probe").folder / BEST, tmp_path / "run" / BEST)
    with pytest.raises(InputError, match=r"handclip_best.pth: not the weights of the model.json beside it"):
        open_run(tmp_path / "run")
    described = (tmp_path / "run" / MODEL_FILE).read_text()
    (tmp_path / "run" / MODEL_FILE).write_text(json.dumps({"num_images": "many"}))
    with pytest.raises(InputError, match="num_images"):
        open_run(tmp_path / "run")
    (tmp_path / "run" / MODEL_FILE).write_text(described)
    (tmp_path / "run" / BEST).write_bytes(b"junk")
    with pytest.raises(InputError, match="damaged, or not a weight file"):
        open_run(tmp_path / "run")
    (tmp_path / "run" / MODEL_FILE).unlink()
    with pytest.raises(InputError, match="has not finished"):
        open_run(tmp_path / "run")
