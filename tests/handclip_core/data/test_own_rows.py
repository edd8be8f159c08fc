"""Data sets that a function of a package outside the tree describes, in all three tasks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_context
from handclip_core.runs.experiment import Experiment, context_of, run
from handclip_core.tasks.base import Dataset
from handclip_core.tasks.captions.data import CaptionData
from handclip_core.tasks.classes.data import ClassData

CPU = torch.device("cpu")
NUM = 24
PACKAGE = f"""
def images(root):
    return [(number, f"images/{{number:02d}}.png") for number in range({NUM})]


def people(root):
    for number, path in images(root):
        yield {{"path": path, "identity": f"person {{number // 2}}", "session": str(number % 2)}}


def kinds(root):
    for number, path in images(root):
        kind = ["riding_a_horse", "Cooking"][number % 2]
        yield {{"path": path, "class": kind, "group": f"burst {{number // 4}}" if number < 8 else ""}}


def words(root):
    splits = ["train", "val", "test"]
    for number, path in images(root):
        yield {{"path": path, "caption": f"scene {{number}}", "split": splits[number % 3]}}
        yield {{"path": path, "caption": f"another, of {{number % 6}}", "split": splits[number % 3]}}


def failing(root):
    yield {{"path": "images/00.png", "caption": "a"}}
    raise KeyError("lost")


def numbers(root):
    return [{{"path": "images/00.png", "caption": 7}}]


def lacking(root):
    return [{{"path": "images/00.png"}}]


def unknown(root):
    return [{{"path": "images/00.png", "caption": "a", "colour": "red"}}]


def nothing(root):
    return []


def listed(root):
    return [[1, 2]]


def absent(root):
    return [None]


def hashed(root):
    return [{{"path": "#1.png", "caption": "a"}}]


LIST = []
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "outside_data.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.delitem(__import__("sys").modules, "outside_data", raising=False)
    folder = tmp_path / "root" / "images"
    folder.mkdir(parents=True)
    for number in range(NUM):
        cells = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((64, 48), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.png")
    return folder.parent


def experiment(root: Path, task: str, function: str, backbone: BackboneSettings) -> Experiment:
    folder = root.parent / f"prepared {function}"
    data = {"source": "prepared", "folder": str(folder), "rows": f"outside_data.{function}", "root": str(root)}
    values = {"task": {"name": task}, "strategy": {"name": "zero_shot"}, "data": data, "backbone": backbone}
    return Experiment.model_validate(values)


def opened(root: Path, task: str, function: str, backbone: BackboneSettings) -> Dataset:
    found = experiment(root, task, function, backbone)
    (report,) = run(found, device=CPU)
    assert 0 <= report.metrics[found.task.metrics.objective.name] <= 1
    return context_of(found, CPU).dataset


def test_people(root: Path, tiny_backbones: dict[str, BackboneSettings]) -> None:
    manifest = opened(root, "identities", "people", tiny_backbones["vit"]).prepared.manifest
    assert manifest["identity"].nunique() == NUM // 2
    assert sorted(set(manifest["session"])) == ["0", "1"]


def test_classes_and_their_groups(root: Path, tiny_backbones: dict[str, BackboneSettings]) -> None:
    dataset = opened(root, "classes", "kinds", tiny_backbones["vit"])
    assert isinstance(dataset, ClassData)
    manifest = dataset.prepared.manifest.assign(label=dataset.labels)
    numbers = manifest["path"].str[-6:-4].astype(int)
    assert dataset.names == ("cooking", "riding a horse")
    assert np.array_equal(manifest["label"] == 1, numbers % 2 == 0)
    bursts = manifest[numbers < 8].groupby(numbers[numbers < 8] // 4)
    assert (bursts["label"].nunique() == 2).all()
    assert (bursts["subset"].nunique() == 1).all()
    assert (bursts["identity"].nunique() == 1).all()
    assert manifest["identity"].nunique() == 16 + 2
    assert (manifest.groupby("subset")["label"].nunique() == 2).all()


@pytest.mark.parametrize(
    "lost", ["protocol.json", "manifest.csv protocol.json", "manifest.csv protocol.json classes.json"]
)
def test_a_folder_that_was_left_halfway_is_prepared_again(
    root: Path, tiny_backbones: dict[str, BackboneSettings], lost: str
) -> None:
    found = experiment(root, "classes", "kinds", tiny_backbones["vit"])
    first = context_of(found, CPU).dataset.prepared
    for name in lost.split():
        (first.folder / name).unlink()
    open_context.cache_clear()
    again = context_of(found, CPU).dataset
    assert isinstance(again, ClassData)
    assert again.prepared.manifest.equals(first.manifest)
    assert again.names == ("cooking", "riding a horse")


def test_captions_and_their_splits(root: Path, tiny_backbones: dict[str, BackboneSettings]) -> None:
    found = experiment(root, "captions", "words", tiny_backbones["vit"])
    dataset = opened(root, "captions", "words", tiny_backbones["vit"])
    assert isinstance(dataset, CaptionData)
    splits = {path[-6:-4]: subset for path, subset in dataset.prepared.manifest[["path", "subset"]].to_numpy()}
    assert splits == {f"{number:02d}": ["train", "val", "test"][number % 3] for number in range(NUM)}
    assert len(dataset.pairs.row) == 2 * NUM
    assert len(dataset.pairs.texts) == NUM + 6
    (root / "images" / "00.png").unlink()  # what is prepared is not asked for again
    assert context_of(found.model_copy(update={"seed": 1}), CPU).dataset is not None


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("failing", "failing: KeyError: 'lost'"),
        ("numbers", "row 0: 'caption' is 7; a text is needed"),
        ("lacking", "row 0 lacks 'caption'; keys are path, caption, perhaps split"),
        ("unknown", "row 0 has 'colour'; keys are path, caption, perhaps split"),
        ("nothing", "nothing gives no row"),
        ("listed", r"listed: row 0 is \[1, 2\]; a mapping with path, caption is needed"),
        ("absent", "absent: row 0 is None; a mapping with path, caption is needed"),
        ("hashed", "hashed: row 0: 'path' is '#1.png'; a text that begins with # would be passed over"),
        ("LIST", "LIST is no function"),
        ("missing", "outside_data has no 'missing'"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_prepared(
    root: Path, tiny_backbones: dict[str, BackboneSettings], function: str, said: str
) -> None:
    found = experiment(root, "captions", function, tiny_backbones["vit"])
    with pytest.raises(InputError, match=rf"data\.rows: outside_data\.{said}|{said}"):
        context_of(found, CPU)
    assert not (found.data.folder / "manifest.csv").exists()  # type: ignore[union-attr]


def test_rows_and_root_come_together(root: Path) -> None:
    data = {"source": "prepared", "folder": str(root), "rows": "outside_data.people"}
    with pytest.raises(ValueError, match="rows and root: give both"):
        Experiment.model_validate({"strategy": {"name": "zero_shot"}, "data": data})
