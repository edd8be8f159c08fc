"""From sources of every shape to a prepared data set; bad ones are refused by name, and nothing is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from handclip_core.commands import prepare as command
from handclip_core.data.leaks import find_leaks
from handclip_core.data.manifest import load_prepared
from handclip_core.errors import InputError
from handclip_core.tasks.captions import prepare as module
from handclip_core.tasks.captions.data import CaptionData
from handclip_core.tasks.captions.prepare import Shares, count_differences, prepare_captions
from handclip_core.tasks.captions.table import read_pairs

ENTRY = {"file_name": "a/0.jpg", "text": "x"}
SPLIT = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((96, 72), Image.Resampling.BICUBIC).save(path, quality=95)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(12):
        draw(tmp_path / "images" / "a" / f"{number}.jpg", seed=number)
    return tmp_path / "images"


def captions_of(number: int) -> list[str]:
    """One to three captions, the last shared by all images of even number."""
    return [
        f"image number {number}",
        *(["once more"] if number % 3 == 0 else []),
        *(["even"] if number % 2 == 0 else []),
    ]


def split_of(number: int) -> str:
    return next(name for name, numbers in SPLIT.items() if number in numbers)


def splits_json(root: Path) -> Path:
    listed = {
        name: [
            {"image_path": f"a/{number}.jpg", "caption": text, "id": number, "category": "hand"}
            for number in numbers
            for text in captions_of(number)
        ]
        for name, numbers in SPLIT.items()
    }
    return written(root, "annotations.json", json.dumps({"splits": listed}))


def karpathy_json(root: Path) -> Path:
    names = {"train": ["train", "restval"], "val": ["val"], "test": ["test"]}
    images = [
        {
            "filepath": "a",
            "filename": f"{number}.jpg",
            "split": names[split_of(number)][number % len(names[split_of(number)])],
            "sentences": [{"raw": text} for text in captions_of(number)],
        }
        for number in range(12)
    ]
    return written(root, "dataset.json", json.dumps({"images": images, "dataset": "flickr8k"}))


def lines(root: Path) -> Path:
    rows = [
        json.dumps({"file_name": f"a/{number}.jpg", "text": text, "split": split_of(number)})
        for number in range(12)
        for text in captions_of(number)
    ]
    return written(root, "metadata.jsonl", "\n".join(rows))


def coco_json(root: Path) -> Path:
    images = [{"id": number, "file_name": f"a/{number}.jpg"} for number in range(12)]
    told = [{"image_id": str(number), "caption": text} for number in range(12) for text in captions_of(number)]
    return written(root, "captions.json", json.dumps({"images": images, "annotations": told}))


def tabs(root: Path) -> Path:
    rows = [f"a/{number}.jpg\t{text}" for number in range(12) for text in captions_of(number)]
    return written(root, "table.tsv", "\n".join(["filepath\ttitle", *rows]))


def sidecars(root: Path) -> None:
    for number in range(12):
        beside = root / "a" / f"{number}"
        if number % 2:
            beside.with_suffix(".txt").write_text("\n".join(captions_of(number)))
        else:
            beside.with_suffix(".json").write_text(json.dumps({"captions": captions_of(number)}))


def written(root: Path, name: str, text: str) -> Path:
    path = root.parent / name
    path.write_text(text, encoding="utf-8")
    return path


def prepared(root: Path, annotations: Path | None = None, **settings: Any) -> CaptionData:
    out = root.parent / "out"
    found = prepare_captions(root, out, annotations=annotations, **{"skip_bad": False, **settings})
    again = load_prepared(out)
    assert again.manifest.equals(found.manifest)
    return CaptionData(again, read_pairs(again))


def told(data: CaptionData) -> dict[str, list[str]]:
    """Captions by path."""
    paths = data.prepared.manifest["path"]
    found: dict[str, list[str]] = {path: [] for path in paths}
    for row, text in zip(data.pairs.row, data.pairs.text, strict=True):
        found[paths[row]].append(data.pairs.texts[text])
    return found


EXPECTED = {f"a/{number}.jpg": captions_of(number) for number in range(12)}


@pytest.mark.parametrize("source", [splits_json, karpathy_json, lines])
def test_sources_that_name_splits_keep_them(root: Path, source: Callable[[Path], Path]) -> None:
    data = prepared(root, source(root))
    assert told(data) == EXPECTED
    subset = dict(zip(data.prepared.manifest["path"], data.prepared.manifest["subset"], strict=True))
    assert subset == {f"a/{number}.jpg": split_of(number) for number in range(12)}
    assert len(set(data.pairs.texts)) == len(data.pairs.texts), "equal captions are one text"
    test = data.pairs.of(data.rows("test"))
    assert set(test.texts) == {text for number in SPLIT["test"] for text in captions_of(number)}


@pytest.mark.parametrize("source", [coco_json, tabs, sidecars])
def test_sources_without_splits_are_cut_by_a_seed(root: Path, source: Callable[[Path], Path | None]) -> None:
    file = source(root)
    first = prepared(root, file, seed=1, shares=Shares(0.25, 0.25))
    assert told(first) == EXPECTED
    assert [len(first._of(name)) for name in ("train", "val", "test")] == [6, 3, 3]
    cut = list(first.prepared.manifest["subset"])
    assert list(prepared(root, file, seed=1, shares=Shares(0.25, 0.25)).prepared.manifest["subset"]) == cut
    assert list(prepared(root, file, seed=2, shares=Shares(0.25, 0.25)).prepared.manifest["subset"]) != cut


def test_the_separator_and_counts_that_are_not_the_published_ones_are_told(root: Path) -> None:
    assert any("separated by tabs" in note for note in prepared(root, tabs(root)).prepared.protocol.notes)
    data = prepared(root, karpathy_json(root))
    assert data.prepared.protocol.warnings[0] == "flickr8k: 6 images in train, 6,000 published"
    assert count_differences(data.prepared, "my own") == []
    arguments = ["captions", str(root), "--out", str(root.parent / "out"), "--annotations", str(karpathy_json(root))]
    result = CliRunner().invoke(command.app, arguments)
    assert result.exit_code == 0, result.output
    assert "WARNING: flickr8k: 3 images in test, 1,000 published" in result.output
    assert "test: 3 images, 5 captions (5 different)" in result.output
    assert "2 of 5 captions of the test are captions of the other images, too" in result.output


@pytest.mark.parametrize(
    ("description", "year"),
    [("COCO 2017 Dataset", 2017), ("This is stable 1.0 version of the 2014 MS COCO dataset.", 2014)],
)
def test_files_of_coco_are_known_by_what_they_say(
    root: Path, description: str, year: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads(coco_json(root).read_text()) | {"info": {"description": description, "year": year}}
    path = written(root, "captions_val.json", json.dumps(document))
    (only,) = prepared(root, path).prepared.protocol.warnings
    assert only.startswith(f"coco {year}: 12 images, {'82,783' if year == 2014 else '118,287'} (train) or ")
    monkeypatch.setattr(module, "RELEASED", {f"coco {year}": {"train": 99, "val": 12}})
    assert prepared(root, path).prepared.protocol.warnings == ()
    assert prepared(root, coco_json(root)).prepared.protocol.warnings == ()


def test_copies_are_one_image_with_the_captions_of_all_and_likenesses_stay_together(root: Path) -> None:
    (root / "b").mkdir()
    (root / "b" / "copy.jpg").write_bytes((root / "a" / "1.jpg").read_bytes())
    (root / "b" / "copy.txt").write_text("the same once more")
    for number in range(4):
        Image.open(root / "a" / "0.jpg").save(root / "b" / f"again{number}.jpg", quality=80 + number)
        (root / "b" / f"again{number}.txt").write_text(f"again {number}")
    sidecars(root)
    data = prepared(root)
    assert told(data)["a/1.jpg"] == [*captions_of(1), "the same once more"]
    assert "b/copy.jpg" not in told(data)
    manifest = data.prepared.manifest
    alike = manifest["path"].str.contains("again|a/0.jpg")
    assert manifest.loc[alike, "subset"].nunique() == manifest.loc[alike, "identity"].nunique() == 1
    assert find_leaks(data.prepared) == []
    assert any("1 files are copies of another" in note for note in data.prepared.protocol.notes)


def test_an_image_in_two_splits_is_refused_and_left_out_of_training_if_asked(root: Path) -> None:
    (root / "a" / "0.jpg").write_bytes((root / "a" / "9.jpg").read_bytes())
    Image.open(root / "a" / "10.jpg").save(root / "a" / "7.jpg", quality=85)
    with pytest.raises(InputError, match="the same image in two splits"):
        prepared(root, splits_json(root))
    data = prepared(root, splits_json(root), skip_bad=True)
    assert set(EXPECTED) - set(told(data)) == {"a/0.jpg", "a/7.jpg"}
    assert find_leaks(data.prepared) == []


def test_an_image_listed_twice_and_a_very_long_caption_are_handled_and_counted(root: Path) -> None:
    rows = [{"file_name": f"a/{number}.jpg", "text": f"number {number}"} for number in range(12)]
    rows += [{"file_name": "a/3.jpg", "text": "x" * 20_000}]
    data = prepared(root, written(root, "m.jsonl", "\n".join(map(json.dumps, rows))))
    assert [len(text) for text in told(data)["a/3.jpg"]] == [8, 2000]
    notes = " ".join(data.prepared.protocol.notes)
    assert "1 images are listed more than once" in notes
    assert "1 captions were cut" in notes


def without_an_image(root: Path) -> Path:
    (root / "a" / "3.jpg").unlink()
    return splits_json(root)


def without_a_sidecar(root: Path) -> None:
    sidecars(root)
    (root / "a" / "3.txt").unlink()


def with_an_empty_sidecar(root: Path) -> None:
    sidecars(root)
    (root / "a" / "3.txt").write_text("\n")


def in_two_splits(root: Path) -> Path:
    document = json.loads(splits_json(root).read_text())
    document["splits"]["test"].append({"image_path": "a/0.jpg", "caption": "again"})
    return written(root, "two.json", json.dumps(document))


def document(value: object) -> Callable[[Path], Path]:
    return lambda root: written(root, "odd.json", json.dumps(value))


def first_entry(**changes: object) -> Callable[[Path], Path]:
    def change(root: Path) -> Path:
        found = json.loads(splits_json(root).read_text())
        found["splits"]["train"][0] |= changes
        return written(root, "odd.json", json.dumps(found))

    return change


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (without_an_image, r"a/3\.jpg: no such file; mend or remove them, or pass --skip-bad"),
        (without_a_sidecar, r"a/3\.jpg: no a/3\.txt or a/3\.json with its captions beside it"),
        (with_an_empty_sidecar, "an empty caption"),
        (in_two_splits, r"a/0\.jpg is in train and in test"),
        (document([1, 2]), "is a list; expected 'splits', or 'images'"),
        (document({"data": []}), "is a mapping with data; expected 'splits'"),
        (document({"splits": []}), "'splits' is a list; a mapping of lists is needed"),
        (document({"splits": {"train": {}}}), "'train' is a mapping; a list is needed"),
        (document({"splits": {"train": []}}), "no image with a caption"),
        (document({"images": [{"id": [1], "file_name": "a"}], "annotations": []}), "'id' is a list; a text or a whole"),
        (first_entry(id={"a": 1}), r"splits\.train\[0\]: 'id' is a mapping; a text or a whole number is needed"),
        (first_entry(caption="  "), r"a/0\.jpg: an empty caption"),
        (first_entry(caption=7), r"a/0\.jpg: its caption is a number, not a text"),
        (first_entry(image_path=7), "'image_path' is a number; a text is needed"),
        (first_entry(image_path="../../etc/passwd"), "is no path inside the data folder"),
        (lambda root: written(root, "m.jsonl", json.dumps(ENTRY) + "\n{"), "line 2: .*not readable"),
        (lambda root: written(root, "m.jsonl", json.dumps(ENTRY | {"split": "dev2"})), "unknown split"),
        (lambda root: written(root, "t.csv", "path,title\na/0.jpg,x"), "no column 'filepath'"),
        (lambda root: written(root, "t.xml", ""), "its name ends in none of .json"),
    ],
)  # fmt: skip
def test_bad_sources_are_refused_by_name_and_nothing_is_written(
    root: Path, source: Callable[[Path], Path | None], message: str
) -> None:
    file = source(root)
    with pytest.raises(InputError, match=message):
        prepared(root, file)
    assert not (root.parent / "out").exists()


def test_a_source_of_which_nothing_is_good_is_refused_by_name_once(root: Path) -> None:
    source = root / "all.jsonl"
    source.write_text("".join(json.dumps({"file_name": f"a/{number}.jpg", "text": " "}) + "\n" for number in range(2)))
    with pytest.raises(InputError) as refused:
        prepared(root, source)
    assert str(refused.value).count(str(source)) == 1
    assert "line 1: a/0.jpg: an empty caption" in str(refused.value)
    with pytest.raises(InputError, match="no usable image"):
        prepared(root, source, skip_bad=True)


def test_what_is_bad_may_be_left_out_and_is_listed(root: Path) -> None:
    data = prepared(root, first_entry(caption="")(root), skip_bad=True)
    assert told(data)["a/0.jpg"] == captions_of(0)[1:]
    assert any("an empty caption" in line for line in data.prepared.protocol.skipped)


def test_a_file_of_captions_that_is_not_the_manifests_is_refused(root: Path) -> None:
    data = prepared(root, splits_json(root))
    path = data.prepared.folder / "captions.json"
    path.write_text(path.read_text().replace(data.prepared.protocol.manifest_hash, "0" * 64))
    with pytest.raises(InputError, match="not the captions of the manifest beside it"):
        read_pairs(data.prepared)
    path.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_pairs(data.prepared)
    path.unlink()
    with pytest.raises(InputError, match="no such file; run `prepare captions` again"):
        read_pairs(data.prepared)
