"""Copies within an identity are told, or left out on request; what two identities share is tested with the leaks."""

import shutil
from collections.abc import Callable
from pathlib import Path

from handclip_core.data.folder import prepare_folder

PEOPLE = {f"p{i:02d}": 3 for i in range(12)}


def test_copies_of_one_person_are_told(folders: Callable[..., Path], tmp_path: Path) -> None:
    root = folders(PEOPLE)
    shutil.copy(root / "p03" / "0.png", root / "p03" / "9.png")
    prepared = prepare_folder(root, tmp_path / "out")
    sessions, copies = prepared.protocol.notes
    assert copies == "1 files are copies of another, byte for byte (p03/9.png)"
    assert sessions.startswith("sessions are not known")
    assert len(prepared.manifest) == 37


def test_the_first_of_several_copies_stays(folders: Callable[..., Path], tmp_path: Path) -> None:
    root = folders(PEOPLE)
    for name in ("8.png", "9.png"):
        shutil.copy(root / "p03" / "0.png", root / "p03" / name)
    prepared = prepare_folder(root, tmp_path / "out", skip_bad=True)
    assert prepared.protocol.skipped == (
        "p03/8.png: same content as p03/0.png",
        "p03/9.png: same content as p03/0.png",
    )
    assert "p03/0.png" in set(prepared.manifest["path"])
    (only,) = prepared.protocol.notes
    assert only.startswith("sessions are not known")
