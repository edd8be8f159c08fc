"""How hard a picture is to recognise, from what the data say; curricula order pictures by it.

Two sources exist. Metadata: rings, watches and sleeves cover the hand, nail polish covers the nails (seen on the back
of the hand only), irregularities change it; and the aspects are not equally hard. Embeddings: how far zero-shot CLIP
puts a picture from the other pictures of its identity. Both are pure functions; nothing is learned or stored here.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from handclip_core.types import Aspect

ASPECT_ERROR = {
    Aspect.DORSAL_RIGHT.value: 2.02,
    Aspect.DORSAL_LEFT.value: 2.59,
    Aspect.PALMAR_RIGHT.value: 1.58,
    Aspect.PALMAR_LEFT.value: 2.16,
}
"""100 - mAP of MBA-Net on 11k Hands (Baisa 2022, arXiv 2104.07649), in points: how hard each aspect is."""
MEAN_ASPECT_ERROR = sum(ASPECT_ERROR.values()) / len(ASPECT_ERROR)


def metadata_difficulty(table: pd.DataFrame) -> np.ndarray:
    """Difficulty of manifest rows from metadata, float64 [N] in [0, 1].

    Each of accessories, irregularities and, on dorsal aspects, nail polish adds one part in four; the last part is the
    aspect's ASPECT_ERROR relative to the largest. What is unknown adds nothing; an unknown aspect counts as the mean.
    """
    flags = table[["accessories", "irregularities", "nail_polish"]].fillna(0).to_numpy(dtype=np.float64)
    flags[:, 2] *= table["aspect"].str.startswith("dorsal").to_numpy(dtype=np.float64)
    error = table["aspect"].map(ASPECT_ERROR).fillna(MEAN_ASPECT_ERROR).to_numpy(dtype=np.float64)
    difficulty: np.ndarray = (flags.sum(axis=1) + error / max(ASPECT_ERROR.values())) / 4
    return difficulty


def centre_distance(embeddings: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Cosine distance of each embedding to the centre of the *others* of its group, float64 [N] in [0, 2].

    ``embeddings`` [N, D] need not be normalised; ``groups`` [N] are identities, or identity and aspect. The picture
    itself is left out of its centre: it would otherwise look easy in small groups. A picture without others gets the
    median of the rest, 1 where there is no rest.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings.astype(np.float64) / np.maximum(lengths, np.finfo(np.float32).tiny)
    _, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sums = np.zeros((group.max(initial=-1) + 1, unit.shape[1]))
    np.add.at(sums, group, unit)
    others = sums[group] - unit
    length = np.linalg.norm(others, axis=1)
    alone = np.bincount(group)[group] == 1
    distance = 1.0 - (others * unit).sum(axis=1) / np.where(length > 0, length, 1.0)
    rest = float(np.median(distance[~alone])) if (~alone).any() else 1.0
    return np.where(alone, rest, distance)


def as_ranks(values: np.ndarray) -> np.ndarray:
    """``values`` [N] replaced by their mean ranks, from 0 (easiest) to 1 (hardest); 0.5 where all are equal."""
    if len(values) < 2:
        return np.full(len(values), 0.5)
    ranks: np.ndarray = pd.Series(values).rank(method="average").to_numpy(dtype=np.float64)
    return (ranks - 1) / (len(values) - 1)


def difficulty(table: pd.DataFrame, embeddings: np.ndarray | None = None, *, metadata_share: float = 0.5) -> np.ndarray:
    """Difficulty of manifest rows, float64 [N] in [0, 1]: the weighted mean of both sources' ranks.

    ``embeddings`` [N, D] are zero-shot embeddings of the rows; without them only metadata count.
    """
    by_metadata = as_ranks(metadata_difficulty(table))
    if embeddings is None:
        return by_metadata
    by_distance = as_ranks(centre_distance(embeddings, list(table["identity"] + " " + table["aspect"])))
    return metadata_share * by_metadata + (1 - metadata_share) * by_distance
