"""Linear maps in closed form from the statistics of labelled vectors, in float64.

n vectors of R numbers in K classes. The within-class covariance S_w pools the deviations from the class means over
n - K degrees of freedom; the total covariance S_t, those from the mean over n - 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handclip_core.errors import InputError

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]
TINY = 1e-10
"""Variances below this share of the largest are rounding."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """From vectors x [n, R] to (x - ``mean``) ``matrix`` [n, W]."""

    mean: Matrix
    matrix: Matrix

    def __call__(self, vectors: Matrix) -> Matrix:
        """The image [n, W] of ``vectors`` [n, R]."""
        return (vectors - self.mean) @ self.matrix

    def then(self, other: "LinearMap") -> "LinearMap":
        """This map and ``other`` after it as one; columns of this one are orthonormal, or zero."""
        return LinearMap(self.mean + self.matrix @ other.mean, self.matrix @ other.matrix)


@dataclass(frozen=True, eq=False)
class TwoCovariance:
    """A class mean has covariance B and an image around it covariance W; after ``map`` W is I and B diag(``ratio``)."""

    map: LinearMap
    ratio: Matrix

    def scores(self, one: Matrix, other: Matrix) -> Matrix:
        """Log-likelihood ratios [Q, G] that vectors [Q, R] and [G, R] share a class (Ioffe 2006; Brummer 2010).

        Per dimension, x and y have variance 1 + r each, and covariance r if they share a class.
        """
        left, right = self.map(one), self.map(other)
        joint = 2 * self.ratio + 1
        offset = 0.5 * np.log((self.ratio + 1) ** 2 / joint).sum()
        square = 0.5 * self.ratio**2 / (joint * (self.ratio + 1))
        sums = ((left**2) @ square)[:, None] + ((right**2) @ square)[None, :]
        found: Matrix = offset + (left * self.ratio / joint) @ right.T - sums
        return found


def class_means(vectors: Matrix, labels: Labels) -> tuple[Matrix, Matrix]:
    """Means [K, R] of the classes in the order of their labels, and how many vectors each has [K]."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, place, vectors)
    return sums / counts[:, None], counts.astype(np.float64)


def class_deviations(vectors: Matrix, labels: Labels) -> Matrix:
    """Each vector less the mean of its class [n, R]; raises InputError if no class has two vectors."""
    means, counts = class_means(vectors, labels)
    if counts.max(initial=0) < 2:
        raise InputError("neck.metric: no class has two training images, so nothing varies within one; choose pca")
    return vectors - means[np.unique(labels, return_inverse=True)[1]]


def principal_axes(vectors: Matrix, dim: int) -> LinearMap:
    """An orthonormal map to the ``dim`` directions of the largest total variance; columns are zero if there is none."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    matrix = np.zeros((centred.shape[1], dim))
    few = len(centred) < centred.shape[1]
    # The axes of few long vectors follow from the products of these, at less cost.
    values, axes = np.linalg.eigh(centred @ centred.T if few else centred.T @ centred)
    values, axes = values[::-1][:dim], axes[:, ::-1][:, :dim]
    kept = values > TINY * values.max(initial=0)
    found = centred.T @ axes[:, kept] / np.sqrt(values[kept]) if few else axes[:, kept]
    matrix[:, : found.shape[1]] = found
    return LinearMap(mean, matrix)


def inverse_root(values: Matrix, axes: Matrix, shrinkage: float) -> Matrix:
    """((1 - s) S + s tr(S)/R I)^(-1/2) of S = ``axes`` diag(``values``) ``axes``^T, a symmetric matrix [R, R].

    If S is zero, as that of a model that has collapsed, it is the identity. Raises InputError if S is singular and not
    shrunk.
    """
    shrunk = (1 - shrinkage) * values.clip(min=0) + shrinkage * values.mean()
    if shrunk.max(initial=0) <= 0:
        return np.eye(len(values))
    if shrunk.min() <= TINY * shrunk.max():
        raise InputError(
            "neck.metric.shrinkage: too few training images for a covariance of so many numbers; choose more than "
            f"{shrinkage:g}, or a smaller neck.metric.dim"
        )
    found: Matrix = (axes / np.sqrt(shrunk)) @ axes.T
    return found


def covariance_spectrum(deviations: Matrix, freedom: int) -> tuple[Matrix, Matrix]:
    """Variances [R], ascending, and axes [R, R] of ``deviations`` [n, R] over ``freedom`` degrees of freedom."""
    values, axes = np.linalg.eigh(deviations.T @ deviations / freedom)
    return values, axes


def ledoit_wolf(deviations: Matrix) -> float:
    """The shrinkage expected to come closest to the covariance (Ledoit 2004, doi 10.1016/S0047-259X(03)00096-4)."""
    from sklearn.covariance import ledoit_wolf_shrinkage  # a second to import, for one choice of many

    return float(ledoit_wolf_shrinkage(deviations, assume_centered=True))


class PooledCovariance:
    """Vectors [n, R] whose total covariance is decomposed once, for any shrinkage."""

    def __init__(self, vectors: Matrix) -> None:
        self._mean = vectors.mean(axis=0)
        self._spectrum = covariance_spectrum(vectors - self._mean, len(vectors) - 1)

    def whitening(self, shrinkage: float) -> LinearMap:
        """The map after which the total covariance of the vectors is the identity, but for shrinkage."""
        return LinearMap(self._mean, inverse_root(*self._spectrum, shrinkage))


class WithinClass:
    """Vectors [n, R] of labelled images whose within-class covariance is decomposed once, for any shrinkage."""

    def __init__(self, vectors: Matrix, labels: Labels) -> None:
        """Raises InputError if no class has two vectors."""
        self._vectors, self._labels = vectors, labels
        freedom = len(vectors) - len(np.unique(labels))
        self._spectrum = covariance_spectrum(class_deviations(vectors, labels), freedom)

    def whitening(self, shrinkage: float) -> LinearMap:
        """WCCN: the map after which the within-class covariance is the identity, but for shrinkage (Hatch 2006).

        Interspeech 2006, "Within-class covariance normalization for SVM-based speaker recognition", section 3.
        """
        return LinearMap(self._vectors.mean(axis=0), inverse_root(*self._spectrum, shrinkage))

    def discriminants(self, shrinkage: float, *, dim: int, weighted: bool = False) -> LinearMap:
        """LDA: the ``dim`` directions of largest variance between classes after WCCN (Fukunaga 1990, chapter 10).

        If ``weighted``, each is scaled by the root of r / (2 r + 1), where r is its variance between classes over that
        within, so that inner products are the part of the two-covariance model's ratio that depends on both images.
        """
        whitening = self.whitening(shrinkage)
        means, counts = class_means(whitening(self._vectors), self._labels)
        centred = np.sqrt(counts)[:, None] * (means - np.average(means, axis=0, weights=counts))
        # Each mean counts as often as its class has images; a direction without variance stays, as there is no other.
        _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
        matrix = whitening.matrix @ axes[:dim].T
        if weighted:
            # What the images around a mean add to its variance is taken off: of n_k images 1 / n_k, n_k times in N.
            ratio = ((sizes[:dim] ** 2 - len(counts)) / counts.sum()).clip(min=0)
            matrix = matrix * np.sqrt(ratio / (2 * ratio + 1)) if ratio.any() else matrix
        return LinearMap(whitening.mean, matrix)

    def two_covariance(self, shrinkage: float) -> TwoCovariance:
        """The two-covariance model of the vectors by their moments (PLDA: Ioffe 2006, doi 10.1007/11744085_41).

        The variance of class means counts once a class, less what the images around them add to it.
        """
        whitening = self.whitening(shrinkage)
        means, counts = class_means(whitening(self._vectors), self._labels)
        centred = means - means.mean(axis=0)
        between, axes = np.linalg.eigh(centred.T @ centred / max(1, len(means) - 1))
        ratio = (between - float((1 / counts).mean())).clip(min=0)
        return TwoCovariance(LinearMap(whitening.mean, whitening.matrix @ axes), ratio)


def whole_groups(groups: Labels, most: int) -> Labels:
    """Indices of all of ``groups`` [n], ascending, or of so many whole ones, at random, that ``most`` are not exceeded.

    The first is taken in any case.
    """
    names, counts = np.unique(groups, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    few = max(1, int(np.searchsorted(np.cumsum(counts[order]), most, side="right")))
    return np.flatnonzero(np.isin(groups, names[order[:few]]))
