"""Nothing of what is tested may have been trained on: identities, files and images are compared across the split."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from handclip_core.data.images import BadImageError, decode_rgb, read_image
from handclip_core.data.lookalike import LOOK_DRAFT_PX, MAX_PAIRS, gradient_of, near_pairs, same_pairs
from handclip_core.data.manifest import Cut, Prepared, manifest_bytes
from handclip_core.errors import InputError

VERDICT_NAME = "leaks.json"
CHECK_VERSION = 2
"""Raise it whenever the checks become stricter: verdicts of another version count for nothing."""
NUM_NAMED = 10
SIDE_OF = {"train": "train", "val": "val", "test": "test", "distractor": "test"}
"""Distractors stand in test galleries, so they are on the side of the test."""


def check_leaks(prepared: Prepared) -> None:
    """Raise InputError, with the list, if training, validation and test share an identity, a file or an image.

    Files are the same by path, link, inode or content; images by `lookalike`. Under the published cut an identity may
    be a test identity of one aspect and train in another, since `training_rows` never brings the two together; within
    an aspect, and in validation, nobody may. A clean verdict is kept in the prepared folder for as long as the manifest
    stays what it is, so asking again costs nothing.
    """
    token = _token(prepared)
    if _verdict(prepared.folder) == token:
        return
    leaks = find_leaks(prepared)
    if leaks:
        more = len(leaks) - NUM_NAMED
        listed = "; ".join(leaks[:NUM_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(
            f"{prepared.folder}: {len(leaks)} leaks between training, validation and test: {listed}. Remove them from "
            "the source and run `prepare` again, or let `prepare --skip-bad` leave them out"
        )
    _keep_verdict(prepared.folder, token)


def find_leaks(prepared: Prepared) -> list[str]:
    """One line a leak; empty if there is none. Raises InputError if an image must be looked at and cannot be."""
    manifest = prepared.manifest
    found = [*_shared_identities(manifest, prepared.protocol.cut), *_shared_files(prepared), *_shared_images(prepared)]
    return list(dict.fromkeys(found))


def _shared_identities(manifest: pd.DataFrame, cut: Cut) -> Iterator[str]:
    sides = manifest["subset"].map(SIDE_OF)
    identities = {side: set(manifest.loc[sides == side, "identity"]) for side in ("train", "val", "test")}
    for one, other in (("train", "val"), ("val", "test")):
        for identity in sorted(identities[one] & identities[other]):
            yield f"identity {identity} is in {one} and in {other}"
    by_aspect = manifest["aspect"] if cut is Cut.PUBLISHED else pd.Series("any aspect", index=manifest.index)
    for aspect in sorted(set(by_aspect)):
        rows = by_aspect == aspect
        trained = set(manifest.loc[rows & (sides == "train"), "identity"])
        for identity in sorted(trained & set(manifest.loc[rows & (sides == "test"), "identity"])):
            yield f"identity {identity} is in train and in test of {aspect}"


def _shared_files(prepared: Prepared) -> Iterator[str]:
    manifest = prepared.manifest
    sides = manifest["subset"].map(SIDE_OF)
    for key, what in ((_inodes(prepared), "the same file"), (manifest["hash"], "the same content")):
        for _, group in sides[key.ne("") & key.duplicated(keep=False)].groupby(key):
            firsts = [int(part.index[0]) for _, part in group.groupby(group)]
            yield from (_line(manifest, i, j, what) for i, j in itertools.combinations(firsts, 2))


def _inodes(prepared: Prepared) -> pd.Series:
    """Device and inode of each file, empty if it is gone (its content is still compared, by the manifest)."""

    def inode(path: Path) -> str:
        try:
            status = path.stat()
        except OSError:
            return ""
        return f"{status.st_dev}:{status.st_ino}"

    return pd.Series([inode(path) for path in prepared.paths()], index=prepared.manifest.index, dtype=str)


def _shared_images(prepared: Prepared) -> Iterator[str]:
    manifest = prepared.manifest
    sides = manifest["subset"].map(SIDE_OF).to_numpy(dtype=str)
    train, val, test = (np.flatnonzero(sides == side) for side in ("train", "val", "test"))
    for left, right in ((np.concatenate([train, val]), test), (train, val)):
        for i, j in same_images(prepared.root, manifest, left, right).tolist():
            yield _line(manifest, i, j, "the same image")


def same_images(root: Path, table: pd.DataFrame, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pairs of rows, one of ``left`` and one of ``right``, in which two identities share an image, int64 [n, 2].

    ``table`` has ``path``, ``identity``, ``hash`` and ``look``. Files of equal content are not listed again. Raises
    InputError if a candidate cannot be read, or if so many look alike that the images must be without content.
    """
    content, identities = table["hash"].to_numpy(dtype=str), table["identity"].to_numpy(dtype=str)
    i, j = near_pairs(table["look"].to_numpy(dtype=str), left, right).T
    pairs = np.stack([i, j], axis=1)[(content[i] != content[j]) & (identities[i] != identities[j])]
    if len(pairs) > MAX_PAIRS:
        raise InputError(f"{root}: over {MAX_PAIRS:,} pairs of images look alike at first sight; do they show hands?")
    paths = list(table["path"])
    return same_pairs(pairs, lambda row: _gradient(root / paths[row]))


def _gradient(path: Path) -> np.ndarray | None:
    try:
        return gradient_of(decode_rgb(read_image(path), draft_px=LOOK_DRAFT_PX))
    except BadImageError as error:
        raise InputError(f"{path}: {error}; run `prepare` again") from None


def _line(manifest: pd.DataFrame, i: int, j: int, what: str) -> str:
    paths, subsets = manifest["path"].iloc[[i, j]], manifest["subset"].iloc[[i, j]]
    places = [f"{path} ({subset})" for path, subset in zip(paths, subsets, strict=True)]
    return f"{' and '.join(places)}: {what}"


def _token(prepared: Prepared) -> dict[str, str | int]:
    manifest_hash = hashlib.sha256(manifest_bytes(prepared.manifest)).hexdigest()
    return {"clean": manifest_hash, "cut": prepared.protocol.cut.value, "version": CHECK_VERSION}


def _verdict(folder: Path) -> object:
    try:
        return json.loads((folder / VERDICT_NAME).read_bytes())
    except (OSError, ValueError):
        return None


def _keep_verdict(folder: Path, token: dict[str, str | int]) -> None:
    temporary = folder / f".{VERDICT_NAME}.{os.getpid()}.tmp"
    # A folder that may not be written to only means that the check runs again next time.
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(token), encoding="utf-8")
        temporary.replace(folder / VERDICT_NAME)
