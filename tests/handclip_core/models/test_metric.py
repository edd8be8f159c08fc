"""Metrics as a part of models: what is mapped by itself, of what width, and how shrinkage is chosen."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from handclip_core.errors import InputError
from handclip_core.evaluation.retrieval import retrieval_scores
from handclip_core.models.closed_form import Labels, WithinClass
from handclip_core.models.metric import Metric, MetricKind, MetricSettings, unit_vectors

WIDTHS = (6, 4)
FITTED = [kind for kind in MetricKind if kind is not MetricKind.NONE]


def images(num: int = 80, classes: int = 10) -> tuple[NDArray[np.float32], Labels]:
    rng = np.random.default_rng(0)
    labels = np.arange(num) % classes
    return (rng.normal(size=(classes, 10))[labels] + 0.7 * rng.normal(size=(num, 10))).astype(np.float32), labels


def fitted(kind: MetricKind, **changes: object) -> Metric:
    vectors, labels = images()
    settings = MetricSettings.model_validate({"kind": kind, **changes})
    metric = settings.build(WIDTHS, num_images=len(labels), num_classes=10)
    metric.fit(vectors, labels, labels)
    return metric


def test_without_a_kind_nothing_changes() -> None:
    metric = MetricSettings().build(WIDTHS, num_images=5, num_classes=2)
    shown = torch.rand(3, 10, dtype=torch.float64)
    assert metric(shown) is shown
    assert not metric.state_dict()
    assert metric.width == 10


def test_each_vector_is_mapped_by_itself_to_unit_length() -> None:
    vectors, labels = images()
    found = fitted(MetricKind.WCCN, shrinkage=0.1)(torch.from_numpy(vectors)).numpy()
    for part in (slice(0, 6), slice(6, 10)):
        units = unit_vectors(vectors[:, part].astype(np.float64))
        expected = unit_vectors(WithinClass(units, labels).whitening(0.1)(units))
        np.testing.assert_allclose(found[:, part], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "dim", "widths"),
    [
        (MetricKind.PCA, None, (6, 4)),
        (MetricKind.PCA, 3, (3, 3)),
        (MetricKind.WCCN, 5, (5, 4)),
        (MetricKind.LDA, None, (6, 4)),
        (MetricKind.LDA, 2, (2, 2)),
        (MetricKind.PLDA, 3, (3, 3)),
    ],
)
def test_the_width_is_known_before_anything_is_fitted(
    kind: MetricKind, dim: int | None, widths: tuple[int, ...]
) -> None:
    metric = fitted(kind, dim=dim)
    assert metric.mapped_widths == widths
    assert metric(torch.from_numpy(images()[0])).shape == (80, sum(widths))
    few = MetricSettings(kind=kind).build((6,), num_images=4, num_classes=3)
    assert few.width == (2 if kind in (MetricKind.LDA, MetricKind.PLDA) else 3)


@pytest.mark.parametrize("kind", FITTED)
def test_fewer_images_than_numbers_are_reduced_first(kind: MetricKind) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 4
    vectors = (rng.normal(size=(4, 50))[labels] + 0.1 * rng.normal(size=(12, 50))).astype(np.float32)
    metric = MetricSettings(kind=kind, shrinkage=0.1).build((50,), num_images=12, num_classes=4)
    metric.fit(vectors, labels, labels)
    shown = metric(torch.from_numpy(vectors))
    scores = metric.similarity(shown, shown) if metric.compares else shown @ shown.T
    found = retrieval_scores(scores, labels, labels, exclude=np.eye(12, dtype=bool))
    assert found.map == 1.0


def test_likelihood_ratios_are_those_of_the_unit_vectors_summed_over_vectors() -> None:
    vectors, labels = images()
    metric = fitted(MetricKind.PLDA, shrinkage=0.1, dim=3)
    shown = metric(torch.from_numpy(vectors))
    expected = np.zeros((5, 75))
    for part in (slice(0, 6), slice(6, 10)):
        units = unit_vectors(vectors[:, part].astype(np.float64))
        mapped = unit_vectors(WithinClass(units, labels).discriminants(0.1, dim=3)(units))
        expected += WithinClass(mapped, labels).two_covariance(0.1).scores(mapped[:5], mapped[5:])
    # Embeddings reach the comparison at unit length as a whole.
    scaled = F.normalize(shown, dim=1)
    np.testing.assert_allclose(metric.similarity(scaled[:5], scaled[5:]).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_shrinkage_is_chosen_on_identities_that_were_held_out() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 15
    vectors = (rng.normal(size=(15, 40))[labels] + 0.5 * rng.normal(size=(60, 40))).astype(np.float32)
    for given, expected in (("validation", None), ("ledoit_wolf", None), (0.25, 0.25)):
        metric = MetricSettings.model_validate({"kind": "wccn", "shrinkage": given}).build(
            (40,), num_images=60, num_classes=15
        )
        metric.fit(vectors, labels, labels)
        (used,) = metric.shrinkages()
        assert 0 < used < 1
        assert expected is None or used == expected


@pytest.mark.parametrize("kind", FITTED)
def test_a_model_that_has_collapsed_still_has_embeddings(kind: MetricKind) -> None:
    labels = np.arange(8) % 2
    alike = np.ones((8, 5), np.float32)
    metric = MetricSettings(kind=kind).build((5,), num_images=8, num_classes=2)
    metric.fit(alike, labels, labels)
    assert torch.allclose(metric(torch.from_numpy(alike)).norm(dim=1), torch.ones(8))


@pytest.mark.parametrize("given", [1.5, -0.1, float("nan"), "bogus", None, [0.1]])
def test_what_is_no_share_is_refused_in_one_line(given: object) -> None:
    with pytest.raises(InputError, match=r"^settings: shrinkage: .* choose from 0 to 1, ledoit_wolf or validation$"):
        MetricSettings.parse({"kind": "pca", "shrinkage": given}, source="settings")


@pytest.mark.parametrize(("kind", "what"), [(MetricKind.LDA, "classes"), (MetricKind.WCCN, "images")])
def test_a_single_class_or_image_gives_no_dimension(kind: MetricKind, what: str) -> None:
    with pytest.raises(InputError, match=f"{kind} needs two training {what} at least; there are 1"):
        MetricSettings(kind=kind).build((3,), num_images=1, num_classes=1)


def several(seed: int = 0) -> tuple[NDArray[np.float32], Labels]:
    """Three vectors side by side: one that tells classes apart, noise, and another one that does, by other numbers."""
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % 24
    parts = [scale * rng.normal(size=(24, 6))[labels] + 0.6 * rng.normal(size=(120, 6)) for scale in (1, 0, 1)]
    return np.concatenate(parts, axis=1).astype(np.float32), labels


@pytest.mark.parametrize("kind", FITTED)
def test_vectors_that_tell_nobody_apart_are_left_out(kind: MetricKind) -> None:
    vectors, labels = several()
    settings = MetricSettings(kind=kind, dim=5, shrinkage="validation", vectors="validation")
    metric = settings.build((6, 6, 6), num_images=120, num_classes=24)
    metric.fit(vectors, labels, labels)
    first, second, third = metric.shares()
    assert second == 0
    assert first > 0
    assert third > 0
    assert first + third == pytest.approx(1)
    shown = metric(torch.from_numpy(vectors))
    assert shown.shape == (120, 15)
    assert not shown[:, 5:10].any()
    torch.testing.assert_close(shown.norm(dim=1), torch.ones(120))

    alone = [
        MetricSettings(kind=kind, dim=5, shrinkage=metric.shrinkages()[at]).build((6,), num_images=120, num_classes=24)
        for at in (0, 2)
    ]
    expected = torch.zeros(120, 120, dtype=torch.float64)
    for at, share, one in ((0, first, alone[0]), (2, third, alone[1])):
        own = vectors[:, 6 * at : 6 * at + 6]
        one.fit(own, labels, labels)
        mapped = one(torch.from_numpy(own))
        expected += share * (one.similarity(mapped, mapped) if one.compares else mapped @ mapped.T)
    scores = metric.similarity(shown, shown) if metric.compares else shown @ shown.T
    torch.testing.assert_close(scores.double(), expected, atol=1e-4, rtol=1e-4)


def test_what_was_chosen_is_part_of_the_weights() -> None:
    vectors, labels = several()
    settings = MetricSettings(kind=MetricKind.LDA, dim=5, vectors="validation")
    fitted_one, fresh = (settings.build((6, 6, 6), num_images=120, num_classes=24) for _ in range(2))
    fitted_one.fit(vectors, labels, labels)
    fresh.load_state_dict(fitted_one.state_dict())
    assert fresh.shares() == fitted_one.shares()
    shown = torch.from_numpy(vectors)
    assert torch.equal(fresh(shown), fitted_one(shown))


def test_of_all_alike_each_has_the_same_share() -> None:
    assert fitted(MetricKind.WCCN).shares() == (0.5, 0.5)


def test_a_single_identity_leaves_nothing_to_choose_by_and_all_vectors_stay() -> None:
    vectors, _ = several()
    labels = np.arange(120) % 4
    settings = MetricSettings(kind=MetricKind.LDA, shrinkage="validation", vectors="validation")
    metric = settings.build((6, 6, 6), num_images=120, num_classes=4)
    metric.fit(vectors, labels, np.zeros(120, np.int64))
    assert metric.shares() == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert metric(torch.from_numpy(vectors)).norm(dim=1).numpy() == pytest.approx(np.ones(120), abs=1e-5)
