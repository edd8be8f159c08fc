from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from handclip_core.commands import prepare as command
from handclip_core.data.leaks import find_leaks
from handclip_core.data.manifest import load_prepared
from handclip_core.errors import InputError
from handclip_core.tasks.classes.data import read_class_data
from handclip_core.tasks.classes.prepare import Columns, Shares, prepare_classes

CLASSES = ("riding_a_horse", "ApplyEyeMakeup")


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((96, 72), Image.Resampling.BICUBIC).save(path, quality=95)


def images(root: Path, *, each: int = 6, prefix: str = "", start: int = 0) -> Path:
    """``each`` images of both classes below ``prefix``."""
    for number, name in enumerate(CLASSES):
        for i in range(each):
            draw(root / prefix / name / f"{i}.jpg", seed=start + 100 * number + i)
    return root


def prepared(root: Path, **settings: object) -> Path:
    out = root.with_name(f"{root.name}-prepared")
    prepare_classes(root, out, skip_bad=False, **settings)  # type: ignore[arg-type]
    return out


def test_folders_of_classes_are_cut_by_a_seed_and_named_for_clip(tmp_path: Path) -> None:
    out = prepared(images(tmp_path / "a", each=20), seed=1, shares=Shares(0.2, 0.3))
    data = read_class_data(load_prepared(out))
    assert data.names == ("apply eye makeup", "riding a horse")
    assert [len(data._of(name)) for name in ("train", "val", "test")] == [20, 8, 12]
    for split in ("train", "val", "test"):
        counts = np.bincount(data.labels[data._of(split)])
        assert counts[0] == counts[1]
    paths = data.prepared.manifest["path"].to_numpy(dtype=str)
    assert np.array_equal(data.labels == 0, np.char.startswith(paths, "ApplyEyeMakeup/"))
    same = prepared(images(tmp_path / "b", each=20), seed=1, shares=Shares(0.2, 0.3))
    other = prepared(images(tmp_path / "c", each=20), seed=2, shares=Shares(0.2, 0.3))
    manifests = [(folder / "manifest.csv").read_bytes() for folder in (out, same, other)]
    assert manifests[0] == manifests[1] != manifests[2]


def test_folders_of_splits_are_kept_and_a_missing_one_is_cut_out_of_training(tmp_path: Path) -> None:
    root = images(images(tmp_path / "a", prefix="train"), prefix="test", each=3, start=1000)
    data = read_class_data(load_prepared(prepared(root)))
    manifest = data.prepared.manifest
    assert (manifest["path"].str.startswith("test/") == (manifest["subset"] == "test")).all()
    assert (manifest["subset"] == "val").sum() == 2
    images(root, prefix="validation", each=2, start=2000)
    data = read_class_data(load_prepared(prepared(root)))
    assert set(data.prepared.manifest["path"].iloc[data.rows("val")].str.split("/").str[0]) == {"validation"}


def test_groups_and_images_that_look_the_same_stay_in_one_split(tmp_path: Path) -> None:
    root = images(tmp_path / "a", each=8)
    for i in range(6):
        draw(root / CLASSES[0] / "video 7" / f"{i}.jpg", seed=500 + i)
    for i in range(4):  # a burst: the same image, saved anew
        Image.open(root / CLASSES[1] / "0.jpg").save(root / CLASSES[1] / f"again{i}.jpg", quality=80 + i)
    manifest = load_prepared(prepared(root)).manifest
    for part in ("video 7", "again|ApplyEyeMakeup/0.jpg"):
        inside = manifest["path"].str.contains(part)
        assert inside.sum() > 4
        assert manifest.loc[inside, "subset"].nunique() == 1
        assert manifest.loc[inside, "identity"].nunique() == 1
    assert find_leaks(load_prepared(root.with_name("a-prepared"))) == []


def spoil_empty(root: Path) -> None:
    (root / "dancing").mkdir()


def spoil_single(root: Path) -> None:
    draw(root / "dancing" / "0.jpg", seed=900)


def spoil_number(root: Path) -> None:
    images(root)
    for i in range(6):
        draw(root / "0017" / f"{i}.jpg", seed=900 + i)


def spoil_twin(root: Path) -> None:
    (root / CLASSES[1] / "twin.jpg").write_bytes((root / CLASSES[0] / "0.jpg").read_bytes())


def spoil_broken(root: Path) -> None:
    (root / CLASSES[0] / "0.jpg").write_bytes(b"no image")


def spoil_mixed(root: Path) -> None:
    images(root, prefix="train", start=700)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_empty, "no image of class dancing"),
        (spoil_single, "class 'dancing' has 1 images or groups that differ; 3 are needed"),
        (spoil_number, "class '0017': its name holds no word"),
        (spoil_twin, "are the same image in two classes"),
        (spoil_broken, r"riding_a_horse/0\.jpg: .*; mend or remove them, or pass --skip-bad"),
        (spoil_mixed, "has folders of splits and 'ApplyEyeMakeup' beside them"),
    ],
)
def test_bad_folders_are_refused_by_name_and_nothing_is_written(tmp_path: Path, spoil: object, message: str) -> None:
    root = images(tmp_path / "a")
    spoil(root)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        prepared(root)
    assert not (tmp_path / "a-prepared").exists()


def test_a_class_that_misses_a_split_is_refused(tmp_path: Path) -> None:
    root = images(images(tmp_path / "a", prefix="train"), prefix="test", each=3, start=1000)
    for i in range(4):
        draw(root / "train" / "dancing" / f"{i}.jpg", seed=900 + i)
    with pytest.raises(InputError, match="class 'dancing' has no image in test"):
        prepared(root)


def test_the_command_shows_counts_and_what_clip_will_read(tmp_path: Path) -> None:
    root = images(tmp_path / "a")
    result = CliRunner().invoke(command.app, ["classes", str(root), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "a photo of riding a horse." in result.output
    (row,) = [line for line in result.output.splitlines() if line.startswith("riding a horse")]
    assert row.split()[-3:] == ["3", "1", "2"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.csv", "protocol.json", "classes.json"}


def test_a_file_of_classes_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    out = prepared(images(tmp_path / "a"))
    text = (out / "classes.json").read_text()
    (out / "classes.json").write_text(text.replace(load_prepared(out).protocol.manifest_hash, "0" * 64))
    with pytest.raises(InputError, match="not the classes of the manifest beside it"):
        read_class_data(load_prepared(out))
    (out / "classes.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_class_data(load_prepared(out))


def test_a_table_lists_images_with_class_split_and_group(tmp_path: Path) -> None:
    root, table = images(tmp_path / "a", each=4), tmp_path / "list.csv"
    splits = ("train", "train", "val", "test")
    lines = [f"{name}/{i}.jpg,{name},{splits[i]}" for name in CLASSES for i in range(4)]
    table.write_text("\n".join(["file,kind,part", *lines]) + "\n")
    options = ["--path-column", "file", "--class-column", "kind", "--split-column", "part"]
    command_line = ["classes", str(root), "--out", str(tmp_path / "out"), "--table", str(table), *options]
    result = CliRunner().invoke(command.app, command_line)
    assert result.exit_code == 0, result.output
    data = read_class_data(load_prepared(tmp_path / "out"))
    assert [len(data._of(name)) for name in ("train", "val", "test")] == [4, 2, 2]
    table.write_text("\n".join(["file,kind,part", *lines, lines[0], "none.jpg,cooking,val", ",cooking,val"]) + "\n")
    with pytest.raises(
        InputError, match=r"(?s)line 10: .*listed twice.*line 11: none.jpg: no such file.*line 12: .*no path"
    ):
        prepare_classes(root, tmp_path / "again", table=table, columns=Columns("file", "kind", "part"), skip_bad=False)
    table.write_text(f"path,class,split\n{CLASSES[0]}/0.jpg,cooking,exam\n")
    with pytest.raises(InputError, match="line 2: unknown split 'exam'"):
        prepare_classes(root, tmp_path / "again", table=table, columns=Columns(split="split"), skip_bad=False)
    table.write_text("\n".join(["file,kind,part", *lines[:-1], lines[-1].rsplit(",", 1)[0] + ","]) + "\n")
    with pytest.raises(InputError, match="line 9 is in no split, others are"):
        prepare_classes(root, tmp_path / "again", table=table, columns=Columns("file", "kind", "part"), skip_bad=False)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("seed", range(5))
def test_a_group_of_several_classes_stays_in_one_split(tmp_path: Path, seed: int) -> None:
    root, table = images(tmp_path / "a", each=12), tmp_path / "list.csv"
    lines = [f"{name}/{i}.jpg,{name},person {i // 2}" for name in CLASSES for i in range(12)]
    table.write_text("\n".join(["path,class,who", *lines]) + "\n")
    out = prepared(root, table=table, columns=Columns(group="who"), seed=seed)
    data = read_class_data(load_prepared(out))
    manifest = data.prepared.manifest.assign(label=data.labels)
    assert (manifest.groupby("identity")["subset"].nunique() == 1).all()
    assert manifest["identity"].nunique() == 6
    assert manifest.groupby("subset")["identity"].nunique().to_dict() == {"train": 3, "val": 1, "test": 2}
    assert (manifest.groupby("subset")["label"].nunique() == len(CLASSES)).all()
