"""A prepared data set: the manifest (one row an image) and the protocol (cut, seed, draws), written by `prepare`."""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.paths import fault_of, input_folder, read_file, shown_path

COLUMNS = (
    "path", "identity", "aspect", "accessories", "nail_polish", "irregularities",
    "gender", "age", "skin_tone", "session", "subset", "hash", "look",
)  # fmt: skip
"""Columns of ``manifest.csv``.

``path`` is relative to the protocol's root, with forward slashes; ``identity`` and the other texts are strings
(empty if unknown); ``accessories``, ``nail_polish``, ``irregularities`` and ``age`` are nullable integers;
``session`` is the occasion on which an image was taken, a column that is written only if one is known; ``subset`` is
one of SUBSETS; ``hash`` is the SHA-256 of the file; ``look`` its perceptual hash (see `lookalike`).
"""

SESSION = "session"
INTEGER_COLUMNS = ("accessories", "nail_polish", "irregularities", "age")

SUBSETS = ("train", "val", "test", "distractor")
"""``val`` is identity-disjoint from ``train``; ``train_all`` is train + val; distractors join every test gallery."""

MANIFEST_NAME = "manifest.csv"
PROTOCOL_NAME = "protocol.json"
CHECKSUM = "checksum"
"""Key of ``protocol.json`` with the SHA-256 of all others."""


class Cut(StrEnum):
    """How identities are divided into training and test."""

    PUBLISHED = "published"
    """The thresholds of the published tables; in 11k they differ by aspect, so some identities are on both sides."""
    COMMON = "common"
    """One cut for all aspects: nobody is on both sides."""


class GallerySplit(Config):
    """One random choice of galleries: manifest rows, by aspect."""

    gallery: dict[str, tuple[int, ...]]
    """One row of each identity of the aspect (and, for test, the distractors)."""
    query: dict[str, tuple[int, ...]]
    """All other rows of the identities of the aspect."""


class Protocol(Config):
    """How a data set is cut and drawn."""

    source: str
    """What was prepared: ``11k``, ``hd``, ``folder`` or ``drawn``."""
    cut: Cut
    """How identities are divided into training and test."""
    seed: int
    """Seed of the validation cut and of every gallery split."""
    root: str
    """Folder that the manifest's paths start from."""
    source_hash: str
    """SHA-256 over the source's table and the files' hashes."""
    manifest_hash: str
    """SHA-256 of ``manifest.csv``: the two files belong together."""
    closed_val: tuple[int, ...]
    """The published validation rows: one random image of each training identity of an aspect; no search uses them."""
    draws: dict[str, tuple[GallerySplit, ...]]
    """The gallery splits of ``val`` and of ``test``."""
    skipped: tuple[str, ...] = ()
    """Files and rows that were left out because they are bad, each with the reason."""
    warnings: tuple[str, ...] = ()
    """What the owner of the source should mend: images that are left out, identities that may be two people."""
    notes: tuple[str, ...] = ()
    """What the user should know about the source: files without rows, copies, and the like."""


@dataclass(frozen=True)
class Prepared:
    """A prepared data set in memory; row i of ``manifest`` is the row i that draws and caches speak of."""

    root: Path
    """Folder that the manifest's paths start from."""
    folder: Path
    """Folder that holds ``manifest.csv`` and ``protocol.json``."""
    manifest: pd.DataFrame
    protocol: Protocol

    def paths(self) -> list[Path]:
        """The files of all rows, in order."""
        return [self.root / path for path in self.manifest["path"]]


def manifest_bytes(manifest: pd.DataFrame) -> bytes:
    """``manifest.csv`` as bytes, the same on every machine."""
    buffer = io.StringIO(newline="")
    columns = [name for name in COLUMNS if name != SESSION or manifest[SESSION].ne("").any()]
    manifest.to_csv(buffer, columns=columns, index=False, lineterminator="\n")
    return buffer.getvalue().encode("utf-8")


def write_prepared(prepared: Prepared, *, beside: Mapping[str, str] | None = None) -> None:
    """Write manifest and protocol into ``prepared.folder``, through temporary names, after what stands ``beside`` them.

    The protocol is the last: where there was none, all is there once it is. A kill between the renames over an earlier
    pair leaves one whose hashes differ, which `load_prepared` refuses.
    Raises InputError if the folder cannot be written.
    """
    contents = {
        **{name: text.encode("utf-8") for name, text in (beside or {}).items()},
        MANIFEST_NAME: manifest_bytes(prepared.manifest),
        PROTOCOL_NAME: _with_checksum(prepared.protocol),
    }
    temporary = {name: prepared.folder / f".{name}.{os.getpid()}.tmp" for name in contents}
    try:
        prepared.folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            _write_through(temporary[name], data)
        for name, path in temporary.items():
            path.replace(prepared.folder / name)
    except OSError as error:
        raise InputError(f"{prepared.folder}: cannot be written: {fault_of(error)}; choose another --out") from None
    finally:
        for path in temporary.values():
            if prepared.folder.is_dir():
                path.unlink(missing_ok=True)


def _with_checksum(protocol: Protocol) -> bytes:
    values = protocol.model_dump(mode="json")
    return _compact(values | {CHECKSUM: _checksum(values)})


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(_compact(values)).hexdigest()


def _compact(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load_prepared(out: Path) -> Prepared:
    """Read what `prepare` wrote into ``out``.

    Raises InputError if a file is missing, damaged, was edited, or is not the other one's.
    """
    mend = f"run `prepare` with --out {shown_path(out)} first"
    out = input_folder(out, mend=mend)
    protocol_path, manifest_path = out / PROTOCOL_NAME, out / MANIFEST_NAME
    protocol_data, data = (read_file(path, missing=f"no such file; {mend}") for path in (protocol_path, manifest_path))
    try:
        values = json.loads(protocol_data)
    except ValueError:
        raise InputError(f"{protocol_path}: damaged (not JSON); run `prepare` again") from None
    protocol = _checked(values, protocol_path)
    if hashlib.sha256(data).hexdigest() != protocol.manifest_hash:
        raise InputError(f"{manifest_path}: not the manifest that {PROTOCOL_NAME} was made for; run `prepare` again")
    return Prepared(root=Path(protocol.root), folder=out, manifest=_parse_manifest(data), protocol=protocol)


def _checked(values: Any, path: Path) -> Protocol:
    found = values.pop(CHECKSUM, None) if isinstance(values, dict) else None
    protocol = Protocol.parse(values, source=f"{path} (damaged or of another version, run `prepare` again)")
    if found is None:
        raise InputError(f"{path}: no checksum; it was edited, or is of an earlier version; run `prepare` again")
    if found != _checksum(values):
        raise InputError(f"{path}: differs from its checksum; put it back, or run `prepare` again")
    return protocol


def _parse_manifest(data: bytes) -> pd.DataFrame:
    # Everything is read as text first: an identity called "NA" or "007" must stay what it is.
    manifest = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, encoding="utf-8")
    return typed_columns(manifest.reindex(columns=list(COLUMNS), fill_value=""))


def typed_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A copy of ``table`` (texts) in which INTEGER_COLUMNS are nullable integers, unknown if the text is empty."""
    typed = table.copy()
    for column in INTEGER_COLUMNS:
        typed[column] = pd.to_numeric(typed[column].replace("", None), errors="raise").astype("Int64")
    return typed
