"""Embeddings with the names of their rows as files: NumPy, Parquet or HDF5."""

import csv
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from handclip_core.errors import InputError
from handclip_core.paths import output_folder, output_path
from handclip_core.serving.model import Embeddings

IMAGE, EMBEDDING = "image", "embedding"


def output_file(given: Path) -> Path:
    """The file that a user names for embeddings; raises InputError, before any work, if it cannot be written."""
    path = output_path(given, option="--out")
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"--out {given}: choose a name that ends in {', '.join(WRITERS)}")
    if path.is_dir():
        raise InputError(f"--out {given}: is a folder, not a file")
    if path.suffix.lower() in (".h5", ".hdf5"):
        optional("h5py", "HDF5")
    output_folder(path.parent, option="--out")
    return path


def write_embeddings(path: Path, names: Sequence[str], embeddings: Embeddings) -> None:
    """Write embeddings [n, W] and the names [n] of their rows, whole or not at all.

    ``.npy`` holds the array alone, and the names are in a ``.csv`` beside it; ``.parquet`` has a column of names and
    one of lists; ``.h5`` has a data set of each.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    WRITERS[path.suffix.lower()](partial, names, embeddings)
    partial.replace(path)


def optional(module: str, what: str) -> object:
    """A package that only some need; raises InputError that says how to get it."""
    try:
        return import_module(module)
    except ImportError:
        raise InputError(f"{what} needs the package {module}: pip install {module}") from None


def _npy(path: Path, names: Sequence[str], embeddings: Embeddings) -> None:
    rows = path.with_name(path.name.removeprefix(".partial-")).with_suffix(".csv")
    with rows.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["row", IMAGE])
        table.writerows(enumerate(names))
    np.save(path, embeddings)


def _parquet(path: Path, names: Sequence[str], embeddings: Embeddings) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
    pq.write_table(pa.table({IMAGE: pa.array(list(names), pa.string()), EMBEDDING: vectors}), path)


def _hdf5(path: Path, names: Sequence[str], embeddings: Embeddings) -> None:
    h5py = optional("h5py", "HDF5")
    with h5py.File(path, "w") as file:  # type: ignore[attr-defined]
        file.create_dataset(EMBEDDING, data=embeddings)
        file.create_dataset(IMAGE, data=list(names), dtype=h5py.string_dtype())  # type: ignore[attr-defined]


WRITERS: dict[str, Callable[[Path, Sequence[str], Embeddings], None]] = {
    ".npy": _npy,
    ".parquet": _parquet,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
"""By the ending of the file."""
