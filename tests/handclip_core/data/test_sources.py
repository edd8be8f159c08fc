import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from handclip_core.data.sources import DrawnData, PreparedData, open_data
from handclip_core.errors import InputError

SETTINGS = DrawnData(people=8, images_per_aspect=2, height_px=96)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    open_data(SETTINGS, cache=folder)
    return folder


def test_drawn_data_are_drawn_once(cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.jpg")}
    prepared = open_data(SETTINGS, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.jpg")} == before
    assert prepared.protocol.source == "drawn"
    assert prepared.manifest["identity"].nunique() == 8


@pytest.mark.parametrize("lost", ["protocol.json", "manifest.csv and protocol.json", "pictures"])
def test_what_a_kill_left_out_is_made_up_for(cache: Path, tmp_path: Path, lost: str) -> None:
    expected = open_data(SETTINGS, cache=cache)
    copied = tmp_path / "cache"
    shutil.copytree(cache, copied)
    (folder,) = (path for path in (copied / "drawn").iterdir() if path.is_dir())
    for name in lost.split(" and "):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    again = open_data(SETTINGS, cache=copied)
    assert again.manifest.equals(expected.manifest)
    assert all(path.exists() for path in again.paths())


@pytest.mark.parametrize("file", ["protocol.json", "manifest.csv"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data.replace(b"0", b"1", 1)])
def test_a_damaged_file_of_drawn_data_is_written_anew(
    cache: Path, tmp_path: Path, file: str, damage: Callable[[bytes], bytes]
) -> None:
    expected = open_data(SETTINGS, cache=cache)
    copied = tmp_path / "cache"
    shutil.copytree(cache, copied)
    (path,) = (copied / "drawn").rglob(file)
    path.write_bytes(damage(path.read_bytes()))
    again = open_data(SETTINGS, cache=copied)
    assert again.manifest.equals(expected.manifest)
    assert again.protocol.draws == expected.protocol.draws


def test_other_settings_are_other_data(cache: Path) -> None:
    other = open_data(SETTINGS.model_copy(update={"seed": 1}), cache=cache)
    assert not other.manifest["hash"].isin(open_data(SETTINGS, cache=cache).manifest["hash"]).any()


def test_a_prepared_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prepare"):
        open_data(PreparedData(source="prepared", folder=tmp_path / "none"), cache=tmp_path)
