"""How hard an image is to recognise, from what the data say; curricula order images by it.

Metadata: rings, watches and sleeves cover the hand, nail polish covers the nails (seen on the back of the hand only),
irregularities change it; and the aspects are not equally hard. Embeddings: how far zero-shot CLIP puts an image from
the other images of its identity, and the loss of a classifier by class means. All are pure functions.
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
"""100 - mAP of MBA-Net on 11k Hands (Baisa 2022, ICPR), in points: how hard each aspect is."""
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

    ``embeddings`` [N, D] need not be normalised; ``groups`` [N] are identities, or identity and aspect. The image
    itself is left out of its centre: it would otherwise look easy in small groups. An image without others gets the
    median of the rest, 1 if there is no rest.
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


def prototype_loss(embeddings: np.ndarray, labels: np.ndarray, *, temperature: float = 0.05) -> np.ndarray:
    """Cross-entropy of each image under a classifier by class means, float64 [N].

    ``embeddings`` [N, D] are zero-shot embeddings, ``labels`` [N] classes. Logits are cosines to the mean of each class
    over ``temperature``; the image itself is left out of its class's mean. A classifier on pretrained features as the
    judge of difficulty is the transfer scoring of Hacohen & Weinshall 2019, arXiv 1904.03626. An image without others
    of its class gets the median of the rest, 0 if there is no rest.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings.astype(np.float64) / np.maximum(lengths, np.finfo(np.float32).tiny)
    classes, group = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), unit.shape[1]))
    np.add.at(sums, group, unit)
    others = sums[group] - unit
    logits = unit @ (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).T
    own = (unit * others).sum(axis=1) / np.maximum(np.linalg.norm(others, axis=1), 1e-12)
    logits[np.arange(len(unit)), group] = own
    logits /= temperature
    highest = logits.max(axis=1, keepdims=True)
    loss = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0] - own / temperature
    alone = np.bincount(group)[group] == 1
    rest = float(np.median(loss[~alone])) if (~alone).any() else 0.0
    return np.where(alone, rest, loss)
