"""From a source's table to a prepared data set: every file is opened and hashed, identities are cut, draws are made."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from handclip_core.data.collection import Collection, summary
from handclip_core.data.copies import with_note_on_copies, without_copies
from handclip_core.data.images import BadImageError, decode_rgb, read_image
from handclip_core.data.lookalike import LOOK_DRAFT_PX, look_of
from handclip_core.data.manifest import COLUMNS, Cut, Prepared, Protocol, manifest_bytes, typed_columns, write_prepared
from handclip_core.data.parallel import map_files
from handclip_core.data.ready_splits import ReadySplits
from handclip_core.data.splits import choose_closed_val, choose_val, make_gallery_splits, session_notes
from handclip_core.errors import InputError


def prepare(
    collection: Collection,
    out: Path,
    *,
    cut: Cut,
    assign: Callable[[pd.DataFrame], pd.Series],
    seed: int,
    skip_bad: bool,
    ready: ReadySplits | None = None,
) -> Prepared:
    """Check every file, cut the identities, draw, and write manifest and protocol into ``out``.

    ``assign`` turns the table of good rows into their side: ``train``, ``test`` or ``distractor``. Nothing is written
    if anything is refused. Raises InputError for bad files and rows (with ``skip_bad`` they are listed in the
    protocol instead) and if no usable split remains. What the owner has cut already comes as ``ready``.
    """
    collection = without_bad_files(collection)
    collection = without_copies(collection) if skip_bad else with_note_on_copies(collection)
    if collection.problems and not skip_bad:
        taken = f" ({summary(collection.read_as)})" if collection.read_as else ""
        raise InputError(
            f"{collection.root}: {summary(collection.problems)}; mend or remove them, or pass --skip-bad{taken}"
        )
    if collection.table.empty:
        raise InputError(
            f"{collection.root}: no usable image"
            + (f" ({summary(collection.problems)})" if collection.problems else "")
        )
    table = collection.table.copy()
    table["subset"] = assign(table)
    if not table["subset"].eq("val").any():
        table.loc[table["identity"].isin(choose_val(table, seed=seed)), "subset"] = "val"
    manifest = typed_columns(table)[list(COLUMNS)]
    tested = ready.gallery_splits(manifest) if ready else ()
    closed_val = tuple(manifest.index[manifest["path"].isin(ready.closed_val)]) if ready else ()
    closed_val = closed_val or choose_closed_val(manifest, seed=seed)
    protocol = Protocol(
        source=collection.name,
        cut=cut,
        seed=seed,
        root=str(collection.root.resolve()),
        source_hash=hashlib.sha256("".join([collection.digest, *manifest["hash"]]).encode()).hexdigest(),
        manifest_hash=hashlib.sha256(manifest_bytes(manifest)).hexdigest(),
        closed_val=closed_val,
        draws={
            "val": make_gallery_splits(manifest, "val", seed=seed),
            "test": tested or make_gallery_splits(manifest, "test", seed=seed),
        },
        skipped=collection.problems,
        warnings=collection.warnings,
        notes=(*collection.read_as, *collection.notes, *session_notes(manifest)),
    )
    prepared = Prepared(root=Path(protocol.root), folder=out, manifest=manifest, protocol=protocol)
    write_prepared(prepared)
    return prepared


def without_bad_files(collection: Collection) -> Collection:
    """``collection`` sorted by path, with the hashes of its files; bad files join its problems."""
    # Nothing may depend on the order of a folder or a table.
    collection = replace(collection, table=collection.table.sort_values("path", ignore_index=True))
    paths = list(collection.table["path"])
    found = list(map_files(partial(_examine, collection.root), paths, description="checking images"))
    good = pd.Series([isinstance(item, tuple) for item in found], dtype=bool)  # an empty list would choose no columns
    table = collection.table[good].reset_index(drop=True)
    table["hash"] = [item[0] for item in found if isinstance(item, tuple)]
    table["look"] = [item[1] for item in found if isinstance(item, tuple)]
    bad = tuple(item for item in found if isinstance(item, str))
    return replace(collection, table=table, problems=collection.problems + bad)


def _examine(root: Path, path: str) -> tuple[str, str] | str:
    """Content hash and perceptual hash of a file, or what is wrong with it."""
    try:
        data = read_image(root / path)
        image = decode_rgb(data, draft_px=LOOK_DRAFT_PX)
    except BadImageError as error:
        return f"{path}: {error}"
    return hashlib.sha256(data).hexdigest(), look_of(image)
