"""Small data sets on disk, in the layouts that the preparations read."""

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEADER = (
    "id",
    "age",
    "gender",
    "skinColor",
    "accessories",
    "nailPolish",
    "aspectOfHand",
    "imageName",
    "irregularities",
)
ASPECTS = ("dorsal right", "dorsal left", "palmar right", "palmar left")


def draw_image(seed: int, *, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Smooth random colours, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def write_table(path: Path, rows: Iterable[Sequence[object]], header: Sequence[str] = HEADER) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


@pytest.fixture
def make_image() -> Callable[..., Image.Image]:
    return draw_image


@pytest.fixture
def eleven_k(tmp_path: Path) -> Callable[..., Path]:
    """Write identities x aspects x shots in the layout of 11k Hands; returns its root."""

    def write(people: Iterable[int], *, shots: int = 3, aspects: Sequence[str] = ASPECTS, name: str = "11k") -> Path:
        root = tmp_path / name
        (root / "Hands").mkdir(parents=True)
        rows: list[list[object]] = []
        for identity in people:
            for aspect in aspects:
                for _ in range(shots):
                    image = f"Hand_{len(rows):07d}.jpg"
                    draw_image(len(rows)).save(root / "Hands" / image, quality=92)
                    rows.append([f"{identity:07d}", 30, "female", "fair", 0, 0, aspect, image, 0])
        write_table(root / "HandInfo.csv", rows)
        return root

    return write


def write_table_only(folder: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER) -> Path:
    """A HandInfo.csv of the given rows whose images are all links to one small file; returns its root."""
    (folder / "Hands").mkdir(parents=True)
    draw_image(0, size=(32, 24)).save(folder / "original.jpg")
    for image in {str(row[header.index("imageName")]) for row in rows}:
        os.link(folder / "original.jpg", folder / "Hands" / image)
    write_table(folder / "HandInfo.csv", rows, header)
    return folder


@pytest.fixture
def table_only(tmp_path: Path) -> Callable[..., Path]:
    return partial(write_table_only, tmp_path / "table")


@pytest.fixture(scope="module")
def module_table(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    return partial(write_table_only, tmp_path_factory.mktemp("module") / "table")


@pytest.fixture
def small_jpeg(tmp_path: Path) -> Path:
    draw_image(0, size=(32, 24)).save(tmp_path / "small.jpg")
    return tmp_path / "small.jpg"


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., Path]:
    """Write ``<identity>/<image>`` for the given numbers of images; returns its root."""

    def write(images: dict[str, int], *, name: str = "people") -> Path:
        root = tmp_path / name
        seed = 0
        for identity, number in images.items():
            (root / identity).mkdir(parents=True)
            for shot in range(number):
                draw_image(seed).save(root / identity / f"{shot}.png")
                seed += 1
        return root

    return write
