"""Both published ways of querying, one image enrolled or one image asked, and both distances, by plain loops."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handclip_core.data.manifest import GallerySplit
from handclip_core.evaluation.protocol import Enrolled, GalleryKind, score_gallery_splits, with_roles
from handclip_core.evaluation.similarity import Distance, cosine, euclidean
from handclip_core.evaluation.tta import combine_flips

WHO = ["a", "a", "a", "b", "b", "c", "s", "a", "a", "b", "b", "b"]
"""Manifest rows 0-6 show one aspect, 7-11 another; c has one image there, and s is a distractor."""
DRAW = GallerySplit(gallery={"right": (1, 3, 5, 6), "left": (8, 9)}, query={"right": (0, 2, 4), "left": (7, 10, 11)})


def test_the_image_that_was_drawn_asks_all_others() -> None:
    swapped = with_roles(DRAW, WHO, Enrolled.REST)
    assert swapped.query == {"right": (1, 3), "left": (8, 9)}
    assert swapped.gallery == {"right": (0, 2, 4, 5, 6), "left": (7, 10, 11)}
    assert with_roles(DRAW, WHO, Enrolled.ONE) is DRAW


def plain(vectors: NDArray[np.float64], split: GallerySplit, kind: GalleryKind, distance: Distance) -> dict[str, float]:
    """Mean AP and rank-1 over aspects of the means over queries; a stranger as near as a match comes before it."""
    means = []
    for aspect, queries in split.query.items():
        found = []
        for query in queries:
            entries = []
            for name, rows in split.gallery.items():
                for row in rows if name == aspect or kind is GalleryKind.ALL else ():
                    if distance is Distance.EUCLIDEAN:
                        score = -sum((x - y) ** 2 for x, y in zip(vectors[query], vectors[row], strict=True))
                    else:
                        lengths = np.linalg.norm(vectors[query]) * np.linalg.norm(vectors[row])
                        score = float(vectors[query] @ vectors[row]) / lengths
                    entries.append((-score, name == aspect and WHO[row] == WHO[query]))
            order = [match for _, match in sorted(entries)]
            places = [rank for rank, match in enumerate(order, start=1) if match]
            found.append((sum(j / rank for j, rank in enumerate(places, start=1)) / len(places), float(order[0])))
        means.append(np.mean(found, axis=0))
    return dict(zip(("map", "cmc1"), np.mean(means, axis=0).tolist(), strict=True))


@pytest.mark.parametrize("distance", Distance)
@pytest.mark.parametrize("enrolled", Enrolled)
@pytest.mark.parametrize("kind", GalleryKind)
def test_figures_are_those_of_a_plain_loop(kind: GalleryKind, enrolled: Enrolled, distance: Distance) -> None:
    random = np.random.default_rng(3)
    lengths = random.uniform(0.2, 4, (len(WHO), 1))
    centres = {who: random.standard_normal(5) for who in "abcs"}
    vectors = np.array([centres[who] for who in WHO]) + random.standard_normal((len(WHO), 5))
    vectors = vectors * lengths
    raw = distance is Distance.EUCLIDEAN
    split = with_roles(DRAW, WHO, enrolled)
    found = score_gallery_splits(
        vectors, np.arange(len(WHO)), [split], WHO, gallery=kind, similarity=euclidean if raw else None, unit=not raw
    )
    for name, value in plain(vectors, split, kind, distance).items():
        assert found.metrics[name] == pytest.approx(value, abs=1e-12)


def test_of_unit_vectors_both_distances_give_one_order_and_of_others_two() -> None:
    vectors = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    units = vectors / vectors.norm(dim=1, keepdim=True)
    by_angle = cosine(units[:5], units[5:]).argsort(dim=1)
    assert torch.equal(euclidean(units[:5], units[5:]).argsort(dim=1), by_angle)
    assert not torch.equal(euclidean(vectors[:5], vectors[5:]).argsort(dim=1), by_angle)


def test_equal_images_are_equally_far_wherever_they_stand() -> None:
    vectors = torch.randn(257, 33, generator=torch.Generator().manual_seed(1))
    vectors[200] = vectors[3]
    found = euclidean(torch.randn(19, 33, generator=torch.Generator().manual_seed(2)), vectors)
    assert torch.equal(found[:, 200], found[:, 3])
    assert found.dtype is torch.float64


def test_mirror_images_are_added_as_they_come() -> None:
    plain_, mirrored = np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]])
    np.testing.assert_allclose(combine_flips(plain_, mirrored, unit=False), [[3.0, 4.0]])
    np.testing.assert_allclose(combine_flips(plain_, mirrored), [[0.6, 0.8]], atol=1e-7)
