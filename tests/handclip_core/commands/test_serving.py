"""The commands that use a run: what they print and write, and how they refuse."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from handclip_core.__main__ import main
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment, context_of
from handclip_core.runs.run_folder import read_experiment
from handclip_core.serving.model import ServedModel, open_run
from tests.conftest import TINY_DATA
from tests.handclip_core.serving.conftest import CPU, OPTIM

DOCUMENT = Path(__file__).parents[3] / "docs" / "serving.md"


class Typed:
    """The command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *words: object) -> tuple[str, str]:
        code, out, err = self._run(*words)
        assert code == 0, err
        return out, err

    def refuses(self, *words: object) -> str:
        code, out, err = self._run(*words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        return err

    def _run(self, *words: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["handclip_core", *map(str, words)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *self._capfd.readouterr()


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capfd)


@pytest.fixture(scope="module")
def run(tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and beside it ``people`` of two images each in folders and ``asked``, a third image of each."""
    folder = tmp_path_factory.mktemp("serving")
    strategy = {"name": "linear_probe", "optim": OPTIM}
    values = {"strategy": strategy, "data": TINY_DATA, "backbone": tiny_backbones["vit"], "budget": 1}
    experiment = Experiment.model_validate(values)
    train_into(folder / "run", experiment, device=CPU)
    context = context_of(experiment, CPU)
    rows, paths = context.rows("test"), context.prepared.paths()
    for name in sorted(set(context.identities[rows])):
        three = [paths[row] for row in rows if context.identities[row] == name][:3]
        (folder / "people" / name).mkdir(parents=True)
        (folder / "asked").mkdir(exist_ok=True)
        for file in three[:2]:
            shutil.copy(file, folder / "people" / name)
        shutil.copy(three[2], folder / "asked" / f"{name}.jpg")
    (folder / "asked" / "broken.jpg").write_bytes(b"junk")
    return folder / "run"


@pytest.fixture(scope="module")
def model(run: Path) -> ServedModel:
    return open_run(run)


def names_below(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir()) if path.name != "broken.jpg"]


@pytest.mark.parametrize("ending", ["npy", "parquet", "h5"])
def test_embed(ending: str, typed: Typed, run: Path, model: ServedModel, tmp_path: Path) -> None:
    asked, out = run.parent / "asked", tmp_path / "new" / f"vectors.{ending}"
    said, warned = typed("embed", run, asked, "--out", out)
    assert f"wrote 6 embeddings of width {model.width} to {out}; 1 images unreadable" in said
    assert f"unreadable: {asked / 'broken.jpg'}: not an image" in warned
    if ending == "npy":
        vectors = np.load(out)
        with out.with_suffix(".csv").open() as file:
            names = [row["image"] for row in csv.DictReader(file)]
    elif ending == "parquet":
        table = pd.read_parquet(out)
        vectors, names = np.stack(table["embedding"].tolist()), table["image"].tolist()
    else:
        with pytest.importorskip("h5py").File(out) as file:
            vectors, names = file["embedding"][:], file["image"].asstr()[:].tolist()
    assert names == names_below(asked)
    np.testing.assert_allclose(vectors, model.embed(names), atol=1e-6)
    assert not list(out.parent.glob(".partial*"))


def test_enrol_identify_and_verify(typed: Typed, run: Path, model: ServedModel, tmp_path: Path) -> None:
    people, asked, gallery, out = run.parent / "people", run.parent / "asked", tmp_path / "gallery", tmp_path / "out"
    said, _ = typed("enrol", run, people, "--to", gallery)
    assert said.startswith("enrolled 12 images (0 were there already, 0 unreadable)")
    assert typed("enrol", run, people, "--to", gallery)[0].startswith("enrolled 0 images (12 were there already")
    said, warned = typed("identify", run, asked, "--gallery", gallery, "--out", out, "--top", 2, "--far", 0.1)
    assert "broken.jpg" in warned
    assert "one false accept in 10 comparisons" in said
    found = json.loads((out / "identified.json").read_text())
    enrolled = sorted(path for path in people.rglob("*.jpg"))
    scores = model.scores(model.embed(names_below(asked)), model.embed(enrolled))
    for result, row in zip(found["results"], scores, strict=True):
        best = enrolled[int(row.argmax())]
        assert (result["candidates"][0]["identity"], result["candidates"][0]["image"]) == (best.parent.name, str(best))
        assert result["candidates"][0]["score"] == pytest.approx(row.max(), abs=1e-5)
        expected = (
            "accept"
            if row.max() >= found["threshold"]["high"]
            else "reject"
            if row.max() < found["threshold"]["low"]
            else "unknown"
        )
        assert result["decision"] == expected
    rows = pd.read_csv(out / "identified.csv")
    assert list(rows["rank"]) == [1, 2] * 6
    with Image.open(out / "sheet.jpg") as sheet:
        assert sheet.size == (3 * 136 + 8, 6 * 170 + 8)
    pair = [enrolled[0], enrolled[1]]
    verified = json.loads(typed("verify", run, *pair, "--far", 0.1, "--json")[0])
    assert verified["score"] == pytest.approx(float(np.prod(model.embed(pair), axis=0).sum()), abs=1e-5)


def test_mistakes_are_one_line_and_leave_nothing(typed: Typed, run: Path, tmp_path: Path) -> None:
    asked, image = run.parent / "asked", next((run.parent / "people").rglob("*.jpg"))
    assert "choose a name that ends in .npy" in typed.refuses("embed", run, asked, "--out", tmp_path / "vectors.txt")
    assert "no such file or folder" in typed.refuses("embed", run, tmp_path / "no", "--out", tmp_path / "vectors.npy")
    assert "holds no gallery.json" in typed.refuses("identify", run, asked, "--gallery", asked)
    assert "no threshold was set" in typed.refuses("verify", run, image, image, "--far", 1e-4)
    assert "broken.jpg: not an image" in typed.refuses("verify", run, image, asked / "broken.jpg")
    assert "no images of people" in typed.refuses("enrol", run, asked, "--to", tmp_path / "gallery")
    assert "has no model.json" in typed.refuses("embed", asked, asked, "--out", tmp_path / "vectors.npy")
    assert list(tmp_path.iterdir()) == []


def test_calibration_replaces_the_thresholds(typed: Typed, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    said, _ = typed("calibrate", tmp_path / "run", run.parent / "people")
    assert said.startswith("6 pairs of one person, 60 of two, 6 people\naccept from ")
    assert "no threshold at 0.01: a rate of 0.01 needs at least 300 impostor pairs" in said
    found = open_run(tmp_path / "run").validation
    assert [point.far for point in found.thresholds.points] == [0.1]
    assert found.figures == open_run(run).validation.figures
    assert "no images of people" in typed.refuses("calibrate", tmp_path / "run", run.parent / "asked")


def test_every_command_in_the_document_runs(
    typed: Typed, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    lines = [line.split("#")[0].split() for line in DOCUMENT.read_text().splitlines() if line.startswith("handclip ")]
    shutil.copytree(run, tmp_path / "runs" / "quickstart" / "best")
    values = {"strategy": {"name": "zero_shot"}, "data": TINY_DATA, "backbone": read_experiment(run).backbone}
    train_into(tmp_path / "runs" / "other", Experiment.model_validate(values), device=CPU)
    shutil.copytree(run.parent / "people", tmp_path / "people")
    shutil.copytree(run.parent / "people", tmp_path / "others")
    (tmp_path / "asked").mkdir()
    for number, file in enumerate(names_below(run.parent / "asked"), start=1):
        shutil.copy(file, tmp_path / "asked" / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    for words in lines:
        typed(*words[1:])
    assert {words[1] for words in lines} == {
        "embed", "enrol", "identify", "verify", "calibrate", "export", "ensemble", "compare",
    }  # fmt: skip
    script = next(
        line.split("#")[0].split() for line in DOCUMENT.read_text().splitlines() if line.startswith("python ")
    )
    done = subprocess.run([sys.executable, *script[1:]], capture_output=True, text=True, check=True)
    answers = json.loads((tmp_path / "answers" / "identified.json").read_text())["results"]
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [
        answer["candidates"][0]["identity"] for answer in answers
    ]


def test_export_writes_beside_the_run_by_default(typed: Typed, run: Path) -> None:
    said, _ = typed("export", run, "--to", "safetensors")
    folder = run / "exported" / "safetensors"
    assert f"into {folder}" in said
    assert {"MODEL_CARD.md", "handclip_model.safetensors", "config.json"} <= {path.name for path in folder.iterdir()}
    assert "broken.jpg" in typed("embed", folder, run.parent / "asked", "--out", run.parent / "again.npy")[1]
