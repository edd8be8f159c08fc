"""From a source's table to a prepared data set: every file is opened and hashed, people are cut, draws are made."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from handclip_core.data.images import BadImageError, decode_rgb, read_image
from handclip_core.data.lookalike import LOOK_DRAFT_PX, look_of
from handclip_core.data.manifest import COLUMNS, Cut, Prepared, Protocol, manifest_bytes, typed_columns, write_prepared
from handclip_core.data.parallel import map_files
from handclip_core.data.splits import choose_closed_val, choose_val, make_draws
from handclip_core.errors import InputError

SOURCE_COLUMNS = COLUMNS[: COLUMNS.index("subset")]
"""What a source knows of an image; all texts, empty where unknown."""
NUM_NAMED = 5
"""So many bad files are named in the one line of a refusal."""


@dataclass(frozen=True)
class Source:
    """A data set as its owner laid it out, read but not yet checked."""

    name: str
    root: Path
    table: pd.DataFrame
    """[N] rows of SOURCE_COLUMNS, all texts."""
    digest: str
    """SHA-256 of the source's own table, empty where it has none."""
    problems: tuple[str, ...] = ()
    """Rows that are left out of ``table`` because they are bad, each with its place and reason."""
    notes: tuple[str, ...] = ()


def prepare(
    source: Source, out: Path, *, cut: Cut, assign: Callable[[pd.DataFrame], pd.Series], seed: int, skip_bad: bool
) -> Prepared:
    """Check every file, cut the people, draw, and write manifest and protocol into ``out``.

    ``assign`` turns the table of good rows into their side: ``train``, ``test`` or ``distractor``. Nothing is written
    where anything is refused. Raises InputError for bad files and rows (with ``skip_bad`` they are listed in the
    protocol instead) and where no usable split remains.
    """
    source = _without_bad_files(source)
    if source.problems and not skip_bad:
        raise InputError(f"{source.root}: {summary(source.problems)}; mend or remove them, or pass --skip-bad")
    if source.table.empty:
        raise InputError(
            f"{source.root}: no usable picture" + (f" ({summary(source.problems)})" if source.problems else "")
        )
    table = source.table.sort_values(["path"], ignore_index=True)
    table["subset"] = assign(table)
    table.loc[table["identity"].isin(choose_val(table, seed=seed)), "subset"] = "val"
    manifest = typed_columns(table)[list(COLUMNS)]
    protocol = Protocol(
        source=source.name,
        cut=cut,
        seed=seed,
        root=str(source.root.resolve()),
        source_hash=hashlib.sha256("".join([source.digest, *manifest["hash"]]).encode()).hexdigest(),
        manifest_hash=hashlib.sha256(manifest_bytes(manifest)).hexdigest(),
        closed_val=choose_closed_val(manifest, seed=seed),
        draws={"val": make_draws(manifest, "val", seed=seed), "test": make_draws(manifest, "test", seed=seed)},
        skipped=source.problems,
        notes=source.notes,
    )
    prepared = Prepared(root=Path(protocol.root), folder=out, manifest=manifest, protocol=protocol)
    write_prepared(prepared)
    return prepared


def summary(problems: Sequence[str]) -> str:
    """The first few problems in one line, and how many more there are."""
    more = len(problems) - NUM_NAMED
    return "; ".join(problems[:NUM_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _without_bad_files(source: Source) -> Source:
    paths = list(source.table["path"])
    found = list(map_files(lambda path: _examine(source.root, path), paths, description="checking pictures"))
    good = [isinstance(item, tuple) for item in found]
    table = source.table[good].copy()
    table["hash"] = [item[0] for item in found if isinstance(item, tuple)]
    table["look"] = [item[1] for item in found if isinstance(item, tuple)]
    bad = tuple(item for item in found if isinstance(item, str))
    return replace(source, table=table, problems=source.problems + bad)


def _examine(root: Path, path: str) -> tuple[str, str] | str:
    """Content hash and perceptual hash of a file, or what is wrong with it."""
    try:
        data = read_image(root / path)
        picture = decode_rgb(data, draft_px=LOOK_DRAFT_PX)
    except BadImageError as error:
        return f"{path}: {error}"
    return hashlib.sha256(data).hexdigest(), look_of(picture)
