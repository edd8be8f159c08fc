"""Published figures: their arithmetic, their galleries, the page that shows them, and the table of `compare`."""

from pathlib import Path

import numpy as np
import pytest

from handclip_core.data.manifest import GallerySplit
from handclip_core.evaluation.protocol import GalleryKind, ProtocolScores, score_gallery_splits
from handclip_core.evaluation.published import HD, PUBLISHED, Printed, beside_published

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"


def test_both_definitions_agree_and_one_of_them_is_as_printed() -> None:
    for row in PUBLISHED:
        assert row.map == pytest.approx(2 * row.map_trapezoid - row.rank_one, abs=1e-9), row
        assert row.printed_map == pytest.approx(row.map if row.printed is Printed.STANDARD else row.map_trapezoid), row
        assert 50 < row.rank_one <= row.map_trapezoid <= row.map < 100, row


def test_galleries_are_those_that_the_sources_used() -> None:
    for row in PUBLISHED:
        other = row.method.startswith("CLIP-FH")
        assert row.gallery is (GalleryKind.OWN if row.tested_on == HD or other else GalleryKind.ALL)
        assert row.printed is (Printed.STANDARD if other else Printed.TRAPEZOID)


def test_the_page_shows_the_same() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.endswith(tuple(
        f"| {printed} |" for printed in Printed))]  # fmt: skip
    rows = [
        f"| {one.method} | {one.tested_on} | {'plain' if one.gallery is GalleryKind.OWN else 'all aspects'} "
        f"| {one.rank_one:.2f} | {one.map_trapezoid:.2f} | {one.map:.2f} | {one.printed} |"
        for one in PUBLISHED
    ]
    assert len(rows) == 27
    assert lines == rows


def scores(gallery: GalleryKind, aspect: str) -> ProtocolScores:
    """Four identities of two images, of which one is found at rank 2 and the others at rank 1."""
    angles = np.radians([0, 1, 40, 41, 80, 81, 120, 99])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    split = GallerySplit(gallery={aspect: (0, 2, 4, 6)}, query={aspect: (1, 3, 5, 7)})
    return score_gallery_splits(vectors, np.arange(8), [split], [0, 0, 1, 1, 2, 2, 3, 3], gallery=gallery)


@pytest.mark.parametrize(
    ("gallery", "tested_on", "there", "not_there"),
    [
        (GalleryKind.ALL, "dorsal right", "| MBA-Net | 97.45 | 97.98 | 98.51 | Baisa 2022", "CLIP-FH"),
        (GalleryKind.OWN, "dorsal right", "| CLIP-FH zero-shot ViT-B/16 | 71.42 | 75.20 | 78.98 |", "MBA-Net"),
        (GalleryKind.OWN, HD, "| MBA-Net, trained on 11k dorsal right | 84.41 | 85.98 | 87.55 |", "97.45"),
        (GalleryKind.ALL, HD, "| MBA-Net | 95.12 | 95.54 | 95.96 |", "97.45"),
    ],
)
def test_models_stand_beside_what_was_published_on_their_gallery(
    gallery: GalleryKind, tested_on: str, there: str, not_there: str
) -> None:
    table = beside_published({"mine | yours": scores(gallery, "unknown")}, tested_on={"unknown": tested_on})
    # Three queries at rank 1 and one at rank 2: AP 1 and 1/2, by the trapezoid rule 1 and 1/4.
    assert "| mine \\| yours | 75.00 | 81.25 | 87.50 | here |" in table
    assert there in table
    assert "rows from here without flip" in table
    assert not_there not in table


def test_nothing_stands_beside_what_was_not_published() -> None:
    assert beside_published({"mine": scores(GalleryKind.ALL, "unknown")}, tested_on={"unknown": "unknown"}) == ""
