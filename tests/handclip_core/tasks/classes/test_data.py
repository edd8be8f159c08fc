"""Classes of hands: the aspect, and polished nails where every split shows them."""

from pathlib import Path

import pandas as pd

from handclip_core.data.manifest import Cut, Prepared, Protocol
from handclip_core.tasks.classes.data import of_hands

SPLITS = ("train", "val", "test")


def hands(*polished: tuple[str, str]) -> Prepared:
    """A palm and a back of the right hand in each split; those of ``polished``, by split and aspect, have polish."""
    rows = [
        {"subset": subset, "aspect": aspect, "nail_polish": 0}
        for subset in SPLITS
        for aspect in ("palmar right", "dorsal right")
    ]
    rows += [{"subset": subset, "aspect": aspect, "nail_polish": 1} for subset, aspect in polished]
    manifest = pd.DataFrame(rows)
    manifest["nail_polish"] = manifest["nail_polish"].astype("Int64")
    protocol = Protocol(
        source="11k", cut=Cut.COMMON, seed=0, root="", source_hash="", manifest_hash="", closed_val=(), draws={}
    )
    return Prepared(Path(), Path("folder"), manifest, protocol)


def test_polish_is_a_class_of_backs_if_every_split_shows_it() -> None:
    data = of_hands(hands(*((subset, "dorsal right") for subset in SPLITS), ("train", "palmar right")))
    assert data.names == (
        "the back of a right hand", "the back of a right hand with nail polish", "the palm of a right hand",
    )  # fmt: skip
    assert data.labels.tolist() == [2, 0] * 3 + [1, 1, 1, 2]


def test_without_it_in_a_split_the_class_is_the_aspect() -> None:
    prepared = hands(("train", "dorsal right"), ("test", "dorsal right"))
    prepared.manifest.loc[0, "nail_polish"] = pd.NA
    data = of_hands(prepared)
    assert data.names == ("the back of a right hand", "the palm of a right hand")
    assert data.labels.tolist() == [1, 0] * 3 + [0, 0]
