"""Published figures on 11k Hands and HD under both definitions of mAP, to stand beside runs on the same cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from handclip_core.evaluation.protocol import GalleryKind, ProtocolScores

HD = "HD"
MBA = "Baisa 2022, ICPR"
HAND_ID = "Baisa 2025, arXiv 2506.12447"
FH = "CLIP-FH, epochs chosen on the test split"


class Printed(StrEnum):
    """The definition in which a source printed its mAP."""

    TRAPEZOID = "trapezoid"
    STANDARD = "standard"


@dataclass(frozen=True)
class Published:
    """A row of a paper in percent: rank-1 and mAP as ``printed``, of queries of one aspect, or of HD."""

    method: str
    tested_on: str
    rank_one: float
    printed_map: float
    source: str
    gallery: GalleryKind = GalleryKind.ALL
    printed: Printed = Printed.TRAPEZOID

    @property
    def map_trapezoid(self) -> float:
        """The mAP by the trapezoid rule: (mAP + R1) / 2, as each query has one match."""
        return (self.printed_map + self.rank_one) / 2 if self.printed is Printed.STANDARD else self.printed_map

    @property
    def map(self) -> float:
        """The standard mAP: twice that by the trapezoid rule, less R1."""
        return 2 * self.printed_map - self.rank_one if self.printed is Printed.TRAPEZOID else self.printed_map


def _of_five(method: str, *figures: tuple[float, float]) -> tuple[Published, ...]:
    """A method on the four aspects, in the gallery of all, and on HD, which has one aspect."""
    aspects = ("dorsal right", "dorsal left", "palmar right", "palmar left")
    on_eleven_k = zip(aspects, figures[:4], strict=True)
    return (
        *(Published(method, aspect, *pair, MBA) for aspect, pair in on_eleven_k),
        Published(method, HD, *figures[4], MBA, GalleryKind.OWN),
    )


def _from_dorsal_right(method: str, rank_one: float, printed_map: float) -> Published:
    return Published(f"{method}, trained on 11k dorsal right", HD, rank_one, printed_map, MBA, GalleryKind.OWN)


PUBLISHED = (
    *_of_five("GPA-Net", (94.80, 95.72), (94.87, 95.93), (95.83, 96.31), (95.72, 96.20), (94.64, 95.08)),
    *_of_five("RGA-Net", (94.77, 95.67), (95.30, 95.98), (92.66, 93.58), (94.95, 95.67), (95.06, 95.39)),
    *_of_five("ABD-Net", (95.89, 96.76), (94.26, 95.34), (96.21, 96.91), (95.54, 96.01), (94.93, 95.38)),
    *_of_five("MBA-Net", (97.45, 97.98), (96.71, 97.41), (98.05, 98.42), (97.42, 97.84), (95.12, 95.54)),
    Published("CLIP zero-shot ViT-B/16, flip", "dorsal right", 70.44, 74.31, HAND_ID),
    Published("CLIP zero-shot RN50, flip", "dorsal right", 65.78, 69.10, HAND_ID),
    _from_dorsal_right("MBA-Net", 84.41, 85.98),
    _from_dorsal_right("GPA-Net", 83.02, 84.65),
    _from_dorsal_right("ABD-Net", 71.22, 73.86),
    Published(
        "CLIP-FH zero-shot ViT-B/16", "dorsal right", 71.42, 78.98, FH, GalleryKind.OWN, printed=Printed.STANDARD
    ),
    Published(
        "CLIP-FH cross-entropy fine-tune, 9 epochs", "dorsal right", 93.69, 95.58, FH, GalleryKind.OWN,
        printed=Printed.STANDARD,
    ),
)  # fmt: skip
"""Figures on the published test identities; the gallery of all aspects on 11k unless a row says otherwise."""


def beside_published(models: Mapping[str, ProtocolScores], *, tested_on: Mapping[str, str], flip: bool = False) -> str:
    """A Markdown table an aspect: the ``models`` under both definitions, and what was published on that gallery.

    ``tested_on`` has what papers call each aspect of the models, ``flip`` says whether these were measured with mirror
    images. Nothing is left of an aspect of which nothing was published.
    """
    some = next(iter(models.values()))
    tables = []
    for aspect in some.aspects:
        # HD has one aspect, of which both kinds of gallery are the same.
        name = tested_on.get(aspect)
        rows = [one for one in PUBLISHED if one.tested_on == name and (name == HD or one.gallery is some.gallery)]
        if rows:
            kind = "all aspects" if some.gallery is GalleryKind.ALL and name != HD else "plain"
            flipped = "with" if flip else "without"
            title = f"{name}, gallery {kind}, rows from here {flipped} flip"
            tables.append(_table(title, _own_rows(models, aspect), rows))
    return "\n\n".join(tables)


def _own_rows(models: Mapping[str, ProtocolScores], aspect: str) -> list[tuple[str, float, float, float, str]]:
    found = []
    for name, scores in models.items():
        figures = scores.per_aspect[aspect]
        rank_one, trapezoid, standard = figures.cmc1.mean, figures.map_trapezoid.mean, figures.map.mean
        found.append((name.replace("|", "\\|"), 100 * rank_one, 100 * trapezoid, 100 * standard, "here"))
    return found


def _table(title: str, own: Sequence[tuple[str, float, float, float, str]], published: Sequence[Published]) -> str:
    theirs = [(one.method, one.rank_one, one.map_trapezoid, one.map, one.source) for one in published]
    lines = [
        f"**{title}**, in percent",
        "",
        "| method | R1 | mAP (trapezoid) | mAP (standard) | source |",
        "|---|---:|---:|---:|---|",
        *(f"| {name} | {r1:.2f} | {trapezoid:.2f} | {standard:.2f} | {source} |"
          for name, r1, trapezoid, standard, source in (*own, *theirs)),
    ]  # fmt: skip
    return "\n".join(lines)
