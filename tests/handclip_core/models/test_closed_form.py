"""Closed forms against slow loops, scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal  # type: ignore[import-untyped]
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from handclip_core.errors import InputError
from handclip_core.models.closed_form import (
    Labels,
    Matrix,
    PooledCovariance,
    WithinClass,
    class_deviations,
    ledoit_wolf,
    principal_axes,
)

SHRINKAGE = 0.2


def labelled(num: int = 60, width: int = 7, classes: int = 9, seed: int = 0) -> tuple[Matrix, Labels]:
    """Vectors of unlike variances around the means of their classes, which differ in size."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([np.arange(classes), rng.integers(classes, size=num - classes)]))
    mixing = rng.normal(size=(width, width))
    means = 2 * rng.normal(size=(classes, width))
    return means[labels] + rng.normal(size=(num, width)) @ mixing, labels.astype(np.int64)


def within_class_covariance(vectors: Matrix, labels: Labels) -> Matrix:
    """By a loop over images."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for vector, label in zip(vectors, labels, strict=True):
        deviation = vector - vectors[labels == label].mean(axis=0)
        total += np.outer(deviation, deviation)
    found: Matrix = total / (len(vectors) - len(set(labels.tolist())))
    return found


def shrunk(covariance: Matrix, shrinkage: float = SHRINKAGE) -> Matrix:
    width = len(covariance)
    found: Matrix = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / width * np.eye(width)
    return found


def test_wccn_makes_the_shrunk_covariance_within_classes_the_identity() -> None:
    vectors, labels = labelled()
    found = WithinClass(vectors, labels).whitening(SHRINKAGE)
    after = found.matrix.T @ shrunk(within_class_covariance(vectors, labels)) @ found.matrix
    np.testing.assert_allclose(after, np.eye(7), atol=1e-10)
    np.testing.assert_allclose(found(vectors).mean(axis=0), 0, atol=1e-10)


def test_pca_whitening_is_scikit_learns_up_to_a_rotation() -> None:
    vectors, _ = labelled()
    ours = PooledCovariance(vectors).whitening(0.0)(vectors)
    theirs = PCA(whiten=True, svd_solver="full").fit_transform(vectors)
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-9)
    after = PooledCovariance(vectors).whitening(SHRINKAGE).matrix
    np.testing.assert_allclose(after.T @ shrunk(np.cov(vectors.T)) @ after, np.eye(7), atol=1e-10)


@pytest.mark.parametrize("num", [60, 12], ids=["more vectors than numbers", "fewer"])
def test_principal_axes_are_scikit_learns_whichever_side_is_longer(num: int) -> None:
    vectors, _ = labelled(num, width=20)
    found = principal_axes(vectors, 5)
    theirs = PCA(5, svd_solver="full").fit(vectors)
    np.testing.assert_allclose(abs((found.matrix * theirs.components_.T).sum(axis=0)), 1, atol=1e-9)
    np.testing.assert_allclose(found.matrix.T @ found.matrix, np.eye(5), atol=1e-9)


def test_principal_axes_beyond_the_rank_are_zero() -> None:
    vectors = np.outer(np.arange(6.0), np.ones(4))
    found = principal_axes(vectors, 3).matrix
    np.testing.assert_allclose(abs(found[:, 0]), 0.5)
    assert not found[:, 1:].any()


def test_discriminants_span_what_scikit_learn_finds() -> None:
    vectors, labels = labelled(200)
    ours = WithinClass(vectors, labels).discriminants(0.0, dim=4)(vectors)
    theirs = LinearDiscriminantAnalysis(solver="eigen", n_components=4).fit(vectors, labels).transform(vectors)
    # The same directions, each up to its sign and scale.
    for column in range(4):
        assert abs(np.corrcoef(ours[:, column], theirs[:, column])[0, 1]) == pytest.approx(1, abs=1e-6)


def test_weighted_discriminants_are_those_by_the_ratio_of_their_variances() -> None:
    vectors, labels = labelled(900, width=5, classes=30)
    within = WithinClass(vectors, labels)
    plain, weighted = (within.discriminants(0.1, dim=3, weighted=each) for each in (False, True))
    scales = np.linalg.norm(weighted.matrix, axis=0) / np.linalg.norm(plain.matrix, axis=0)
    np.testing.assert_allclose(weighted.matrix, plain.matrix * scales)
    # By a loop: the variance of class means along each direction, less what the spread of images adds to it.
    for column, scale in enumerate(scales):
        shown = plain(vectors)[:, column]
        means = np.array([shown[labels == one].mean() for one in range(30)])
        counts = np.array([(labels == one).sum() for one in range(30)])
        ratio = sum(
            count * ((mean - shown.mean()) ** 2 - 1 / count) for mean, count in zip(means, counts, strict=True)
        ) / len(labels)
        assert scale == pytest.approx((ratio / (2 * ratio + 1)) ** 0.5, rel=1e-6)


def test_weights_are_right_of_classes_that_differ_in_size() -> None:
    rng = np.random.default_rng(0)
    between = np.array([3.0, 0.5, 0.1])
    labels = np.repeat(np.arange(4000), np.where(np.arange(4000) % 2, 1, 9))
    vectors = (rng.normal(size=(4000, 3)) * np.sqrt(between))[labels] + rng.normal(size=(len(labels), 3))
    within = WithinClass(vectors, labels)
    plain, weighted = (within.discriminants(0.0, dim=3, weighted=each) for each in (False, True))
    scales = np.linalg.norm(weighted.matrix, axis=0) / np.linalg.norm(plain.matrix, axis=0)
    np.testing.assert_allclose(scales, np.sqrt(between / (2 * between + 1)), rtol=0.05)


def test_weights_without_any_variance_between_classes_leave_directions_as_they_are() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 4))
    alike = np.concatenate([vectors, vectors])
    labels = np.repeat([0, 1], 40)
    assert np.isfinite(WithinClass(alike, labels).discriminants(0.1, dim=1, weighted=True).matrix).all()


def test_few_images_of_many_numbers_need_shrinkage() -> None:
    vectors, labels = labelled(12, width=20, classes=4)
    with pytest.raises(InputError, match=r"shrinkage: too few training images .* choose more than 0"):
        WithinClass(vectors, labels).whitening(0.0)
    assert np.isfinite(WithinClass(vectors, labels).whitening(0.01)(vectors)).all()


def test_classes_of_one_image_say_nothing_of_what_varies_within() -> None:
    vectors, _ = labelled(5, width=3, classes=5)
    with pytest.raises(InputError, match="no class has two training images"):
        class_deviations(vectors, np.arange(5))


def test_vectors_that_are_all_alike_stay_so() -> None:
    vectors, labels = np.ones((6, 3)), np.array([0, 0, 1, 1, 2, 2])
    assert not WithinClass(vectors, labels).whitening(0.1)(vectors).any()


def test_the_estimated_shrinkage_is_scikit_learns() -> None:
    vectors, labels = labelled()
    deviations = class_deviations(vectors, labels)
    assert ledoit_wolf(deviations) == pytest.approx(LedoitWolf(assume_centered=True).fit(deviations).shrinkage_)


def test_the_likelihood_ratio_is_that_of_two_gaussians() -> None:
    vectors, labels = labelled(400, width=3, classes=40)
    model = WithinClass(vectors, labels).two_covariance(0.0)
    queries, gallery = vectors[:5], vectors[5:11]
    found = model.scores(queries, gallery)
    across, within = np.diag(model.ratio), np.eye(3)
    apart = np.block([[across + within, np.zeros((3, 3))], [np.zeros((3, 3)), across + within]])
    together = np.block([[across + within, across], [across, across + within]])
    for row, query in enumerate(queries):
        for column, entry in enumerate(gallery):
            both = np.concatenate([model.map(query[None])[0], model.map(entry[None])[0]])
            ratio = multivariate_normal(cov=together).logpdf(both) - multivariate_normal(cov=apart).logpdf(both)
            assert found[row, column] == pytest.approx(ratio, abs=1e-9)


def test_the_two_covariances_are_found_again() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3000), 4)
    between = np.diag([4.0, 1.0, 0.25])
    vectors = rng.multivariate_normal(np.zeros(3), between, 3000)[labels] + rng.normal(size=(12_000, 3))
    assert sorted(WithinClass(vectors, labels).two_covariance(0.0).ratio) == pytest.approx([0.25, 1, 4], rel=0.1)
