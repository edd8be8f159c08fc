"""The counts of a prepared data set, in the terms of the published tables, and how they differ."""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from handclip_core.data.manifest import Cut, Prepared
from handclip_core.types import Aspect

TRAINING = ("train", "val")


@dataclass(frozen=True)
class AspectCounts:
    """Images and identities of one aspect; ``val`` is the published closed-set one, in images."""

    train_all: int
    train_all_ids: int
    train: int
    val: int
    test: int
    test_ids: int
    query: int
    gallery: int
    gallery_all: int


@dataclass(frozen=True)
class PublishedTable:
    """What the published cut of a whole data set gives (MBA-Net, CLIP-HandID, CLIP-FH)."""

    images: int
    """Usable images, distractors among them."""
    aspects: dict[str, AspectCounts]


PUBLISHED = {
    "11k": PublishedTable(
        images=7865,
        aspects={
            "dorsal right": AspectCounts(962, 72, 890, 72, 1042, 71, 971, 71, 290),
            "dorsal left": AspectCounts(808, 73, 735, 73, 1061, 73, 988, 73, 290),
            "palmar right": AspectCounts(977, 72, 905, 72, 988, 71, 917, 71, 290),
            "palmar left": AspectCounts(1004, 76, 928, 76, 1023, 75, 948, 75, 290),
        },
    ),
    "hd": PublishedTable(
        images=5992,
        aspects={"unknown": AspectCounts(2407, 251, 2156, 251, 2243, 251, 1992, 1593, 1593)},
    ),
}
"""By the name of the source; images with accessories are not usable."""


PART = 0.98
"""With fewer than this share of the published images, data are called a part of the set."""


def counts(prepared: Prepared) -> dict[str, Any]:
    """All counts, ready for JSON.

    ``images``, ``identities``, ``distractors``; ``aspects``: AspectCounts of each; ``search``: of each aspect the
    images and identities of the identity-disjoint ``train`` and ``val``, and the size of val's query and gallery.
    """
    manifest = prepared.manifest
    present = set(manifest["aspect"])
    aspects = [aspect.value for aspect in Aspect if aspect in present]
    return {
        "source": prepared.protocol.source,
        "cut": prepared.protocol.cut.value,
        "seed": prepared.protocol.seed,
        "images": len(manifest),
        "identities": int(manifest["identity"].nunique()),
        "distractors": int((manifest["subset"] == "distractor").sum()),
        "skipped": len(prepared.protocol.skipped),
        "aspects": {aspect: asdict(_published_counts(prepared, aspect)) for aspect in aspects},
        "search": {aspect: _search_counts(prepared, aspect) for aspect in aspects},
    }


def count_differences(prepared: Prepared) -> tuple[str, ...]:
    """How the counts differ from the published table, one line each; empty if they do not or no table applies.

    A table applies to the sources of PUBLISHED, under the published cut. If clearly fewer images are there, one line
    says so: then every count differs.
    """
    table = PUBLISHED.get(prepared.protocol.source)
    if table is None or prepared.protocol.cut is not Cut.PUBLISHED:
        return ()
    if len(prepared.manifest) < PART * table.images:
        whole = f"{len(prepared.manifest):,} of {table.images:,} usable images"
        return (f"{whole}: this is a part of {prepared.protocol.source}",)
    found: list[str] = []
    if len(prepared.manifest) != table.images:
        found.append(f"not the published count: usable images: {len(prepared.manifest)}, published {table.images}")
    for aspect, published in table.aspects.items():
        have = asdict(_published_counts(prepared, aspect))
        found += [
            f"not the published count: {aspect} {name}: {have[name]}, published {value}"
            for name, value in asdict(published).items()
            if have[name] != value
        ]
    return tuple(found)


def _published_counts(prepared: Prepared, aspect: str) -> AspectCounts:
    rows = prepared.manifest[prepared.manifest["aspect"] == aspect]
    train_all, test = rows[rows["subset"].isin(TRAINING)], rows[rows["subset"] == "test"]
    num_val = int(rows.index.isin(prepared.protocol.closed_val).sum())
    gallery_split = prepared.protocol.draws["test"][0]
    return AspectCounts(
        train_all=len(train_all),
        train_all_ids=int(train_all["identity"].nunique()),
        train=len(train_all) - num_val,
        val=num_val,
        test=len(test),
        test_ids=int(test["identity"].nunique()),
        query=len(gallery_split.query.get(aspect, ())),
        gallery=len(gallery_split.gallery.get(aspect, ())),
        gallery_all=sum(len(gallery) for gallery in gallery_split.gallery.values()),
    )


def _search_counts(prepared: Prepared, aspect: str) -> dict[str, int]:
    rows = prepared.manifest[prepared.manifest["aspect"] == aspect]
    gallery_split = prepared.protocol.draws["val"][0]
    return {
        "train": int((rows["subset"] == "train").sum()),
        "train_ids": _num_identities(rows, "train"),
        "val": int((rows["subset"] == "val").sum()),
        "val_ids": _num_identities(rows, "val"),
        "query": len(gallery_split.query.get(aspect, ())),
        "gallery": len(gallery_split.gallery.get(aspect, ())),
    }


def _num_identities(rows: pd.DataFrame, subset: str) -> int:
    return int(rows.loc[rows["subset"] == subset, "identity"].nunique())
