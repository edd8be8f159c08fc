"""HD as distributed; its published counts are tested with those of 11k."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from handclip_core.data.hd import prepare_hd
from handclip_core.data.leaks import check_leaks
from handclip_core.errors import InputError

ImageFactory = Callable[..., Image.Image]


def write_hd(root: Path, make_image: ImageFactory) -> Path:
    base = root / "Original Images"
    seed = 0
    for folder, people in (("1-501", (*range(1, 9), *range(446, 452))), ("502-712", (502, 600, 712))):
        (base / folder).mkdir(parents=True)
        for person in people:
            for shot in range(3):
                make_image(seed).save(base / folder / f"{person}_{shot}.{('jpg', 'JPG')[shot % 2]}")
                seed += 1
    return root


def test_cut_distractors_and_ids(tmp_path: Path, make_image: ImageFactory) -> None:
    root = write_hd(tmp_path / "HD", make_image)
    prepared = prepare_hd(root, tmp_path / "out")
    manifest = prepared.manifest
    ids = {subset: sorted(map(int, set(rows["identity"]))) for subset, rows in manifest.groupby("subset")}
    assert ids["test"] == [448, 449, 450, 451]
    assert sorted(ids["train"] + ids["val"]) == [*range(1, 9), 446, 447]
    assert ids["distractor"] == [1502, 1600, 1712]
    for draw in prepared.protocol.draws["test"]:
        assert len(draw.gallery["unknown"]) == 4 + 9
        assert len(draw.query["unknown"]) == 8
    check_leaks(prepared)


def test_root_may_be_the_inner_folder(tmp_path: Path, make_image: ImageFactory) -> None:
    root = write_hd(tmp_path / "HD", make_image)
    first = prepare_hd(root, tmp_path / "a").manifest
    assert first.equals(prepare_hd(root / "Original Images", tmp_path / "b").manifest)
    assert first.equals(prepare_hd(tmp_path, tmp_path / "c").manifest)


def test_odd_names(tmp_path: Path, make_image: ImageFactory) -> None:
    root = write_hd(tmp_path / "HD", make_image)
    folder = root / "Original Images" / "1-501"
    (folder / "Thumbs.db").touch()
    make_image(99).save(folder / "unnamed.jpg")
    with pytest.raises(InputError, match=r"1-501/unnamed.jpg: is not named <id>_<...>.*--skip-bad"):
        prepare_hd(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    prepared = prepare_hd(root, tmp_path / "out", skip_bad=True)
    assert prepared.protocol.skipped == ("1-501/unnamed.jpg: is not named <id>_<...>",)
    assert prepared.protocol.notes == ("1 files are no images by their name (first: 1-501/Thumbs.db)",)


def test_missing_folders_are_named(tmp_path: Path, make_image: ImageFactory) -> None:
    root = write_hd(tmp_path / "HD", make_image)
    with pytest.raises(InputError, match="none: no such folder"):
        prepare_hd(tmp_path / "none", tmp_path / "out")
    with pytest.raises(InputError, match="no folder 'Original Images/1-501' in it"):
        prepare_hd(root / "Original Images" / "1-501", tmp_path / "out")
    (root / "Original Images" / "502-712").rename(tmp_path / "gone")
    with pytest.raises(InputError, match="502-712: no such folder; HD has the folders 1-501 and 502-712"):
        prepare_hd(root, tmp_path / "out")
