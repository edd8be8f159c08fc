"""What is written comes back, and what does not belong together is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from handclip_core.data.folder import prepare_folder
from handclip_core.data.manifest import load_prepared, manifest_bytes, write_prepared
from handclip_core.errors import InputError

Write = Callable[..., Path]
PEOPLE = {f"p{i}": 3 for i in range(12)}


def test_manifest_and_protocol_come_back(folders: Write, tmp_path: Path) -> None:
    strange = {"NA": 3, "007": 3, "null": 3, "Zoë, the 2nd": 3, 'say "hi"': 3, "1e5": 3, "True": 3}
    prepared = prepare_folder(folders(PEOPLE | strange), tmp_path / "out")
    loaded = load_prepared(tmp_path / "out")
    assert loaded.manifest.equals(prepared.manifest)
    assert loaded.manifest.dtypes.equals(prepared.manifest.dtypes)
    assert loaded.protocol == prepared.protocol
    assert set(strange) <= set(loaded.manifest["identity"])


def test_two_preparations_are_byte_for_byte_the_same(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    for name in ("a", "b"):
        prepare_folder(root, tmp_path / name)
    for file in ("manifest.csv", "protocol.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["manifest.csv", "protocol.json"]


def _with_two_rows_exchanged(text: str) -> str:
    """A protocol in which a query and its gallery image have changed places."""
    values = json.loads(text)
    split = values["draws"]["val"][0]
    aspect = next(iter(split["gallery"]))
    gallery, query = split["gallery"][aspect], split["query"][aspect]
    gallery[0], query[0] = query[0], gallery[0]
    return json.dumps(values)


def test_a_changed_or_halved_pair_is_refused(folders: Write, tmp_path: Path) -> None:
    root, out = folders(PEOPLE), tmp_path / "out"
    prepare_folder(root, out)
    manifest, protocol = out / "manifest.csv", out / "protocol.json"
    original, text = manifest.read_bytes(), protocol.read_text(encoding="utf-8")
    manifest.write_bytes(original.replace(b"train", b"test", 1))
    with pytest.raises(InputError, match=r"manifest\.csv: not the manifest that protocol\.json was made for"):
        load_prepared(out)
    manifest.write_bytes(original)
    for damaged, reason in (
        (text[:100], "damaged"),
        (json.dumps(json.loads(text) | {"cut": "none"}), "cut"),
        (json.dumps(json.loads(text) | {"extra": 1}), "unknown key 'extra'"),
        ("[]", "protocol.json"),
        (text.replace('"seed":0', '"seed":1'), r"protocol\.json: differs from its checksum"),
        (text.replace('"skipped":[]', '"skipped":["a"]'), r"protocol\.json: differs from its checksum"),
        (_with_two_rows_exchanged(text), r"protocol\.json: differs from its checksum"),
        (json.dumps({k: v for k, v in json.loads(text).items() if k != "checksum"}), "no checksum"),
    ):
        protocol.write_text(damaged, encoding="utf-8")
        with pytest.raises(InputError, match=reason):
            load_prepared(out)
    manifest.unlink()
    with pytest.raises(InputError, match=r"manifest\.csv: no such file; run `prepare`"):
        load_prepared(out)


def test_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder; run `prepare` with --out .*none first"):
        load_prepared(tmp_path / "none")


def test_a_folder_that_cannot_be_written_is_named(folders: Write, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = folders(PEOPLE)
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"cannot be written: .*; choose another --out"):
            prepare_folder(root, out)


def test_a_kill_between_the_two_files_is_noticed(
    folders: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = folders(PEOPLE), tmp_path / "out"
    prepare_folder(root, out, seed=0)
    other = prepare_folder(root, tmp_path / "other", seed=1)
    assert manifest_bytes(other.manifest) != (out / "manifest.csv").read_bytes()
    replaced: list[Path] = []

    def replace_once(self: Path, target: Path) -> None:
        if replaced:
            raise KeyboardInterrupt
        replaced.append(target)
        self.rename(target)

    monkeypatch.setattr(Path, "replace", replace_once)
    with pytest.raises(KeyboardInterrupt):
        write_prepared(type(other)(root=other.root, folder=out, manifest=other.manifest, protocol=other.protocol))
    with pytest.raises(InputError, match="run `prepare` again"):
        load_prepared(out)
    assert sorted(path.name for path in out.iterdir()) == ["manifest.csv", "protocol.json"]
