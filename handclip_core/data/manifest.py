"""A prepared data set: the manifest (one row an image) and the protocol (cut, seed, draws), written by `prepare`."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from handclip_core.config import Config

COLUMNS = (
    "path", "identity", "aspect", "accessories", "nail_polish", "irregularities",
    "gender", "age", "skin_tone", "subset", "hash",
)  # fmt: skip
"""Columns of ``manifest.csv``; ``path`` is relative to the protocol's root, ``subset`` one of SUBSETS."""

SUBSETS = ("train", "val", "test", "distractor")
"""``val`` is identity-disjoint from ``train``; ``train_all`` is train + val; distractors join every gallery."""


class Draw(Config):
    """One random draw of galleries: manifest rows, by aspect."""

    gallery: dict[str, tuple[int, ...]]
    """One row of each identity of the aspect (and the distractors)."""
    query: dict[str, tuple[int, ...]]
    """All other rows of the identities of the aspect."""


class Protocol(Config):
    """How a data set is cut and drawn."""

    source: str
    """What was prepared: ``11k``, ``hd``, ``folder`` or ``drawn``."""
    cut: str
    """``published`` or ``common``."""
    seed: int
    """Seed of every draw."""
    root: str
    """Folder that the manifest's paths start from."""
    source_hash: str
    """SHA-256 over the source's table and the files' hashes."""
    draws: dict[str, tuple[Draw, ...]]
    """The draws of ``val`` and of ``test``."""


@dataclass(frozen=True)
class Prepared:
    """A prepared data set in memory; row i of ``manifest`` is the row i that draws and caches speak of."""

    root: Path
    manifest: pd.DataFrame
    protocol: Protocol
