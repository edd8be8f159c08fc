"""What a preparation records of its source, and that a refusal leaves what was there."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from handclip_core.data.folder import prepare_folder
from handclip_core.data.manifest import load_prepared
from handclip_core.errors import InputError

Write = Callable[..., Path]
PEOPLE = {f"p{i:02d}": 3 for i in range(10)}


def test_source_hash_follows_files_and_table(
    folders: Write, tmp_path: Path, make_image: Callable[..., Image.Image]
) -> None:
    root = folders(PEOPLE)
    lines = [f"{person}/{shot}.png,{person}" for person in PEOPLE for shot in range(3)]
    table = tmp_path / "list.csv"

    def source_hash(text: str) -> str:
        table.write_text(text, encoding="utf-8")
        return prepare_folder(root, tmp_path / "out", table=table).protocol.source_hash

    original = source_hash("\n".join(["path,identity", *lines]))
    assert source_hash("\n".join(["path,identity", *lines])) == original
    assert source_hash("\n".join(["path,identity", *lines, ""])) != original
    make_image(4711).save(root / "p00" / "0.png")
    assert source_hash("\n".join(["path,identity", *lines])) != original


def test_a_refusal_leaves_an_earlier_preparation_alone(folders: Write, tmp_path: Path) -> None:
    root, out = folders(PEOPLE), tmp_path / "out"
    earlier = prepare_folder(root, out)
    (root / "p00" / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"people: p00/0.png: empty file \(zero bytes\); mend or remove them, or pass"):
        prepare_folder(root, out)
    assert load_prepared(out).protocol == earlier.protocol


def test_many_bad_files_are_counted_and_the_first_named(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    for person in PEOPLE:
        (root / person / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"p04/1.png: not an image .*; and 5 more; mend"):
        prepare_folder(root, tmp_path / "out")
    prepared = prepare_folder(root, tmp_path / "out", skip_bad=True)
    assert len(prepared.protocol.skipped) == 10


def test_root_is_kept_whole_so_that_a_manifest_works_from_anywhere(
    folders: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folders(PEOPLE)
    monkeypatch.chdir(tmp_path)
    prepare_folder(root.relative_to(tmp_path), Path("out"))
    monkeypatch.chdir(root)
    assert all(path.is_file() for path in load_prepared(tmp_path / "out").paths())
