"""Training, validation and test identities: cuts, the identity-disjoint validation set, the seeded gallery splits."""

import math
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from handclip_core.data.manifest import SESSION, Cut, GallerySplit, Prepared
from handclip_core.errors import InputError
from handclip_core.types import Aspect

NUM_GALLERY_SPLITS = 10
"""Draws of val and of test.

On 48 drawn identities, 8 of them in validation, the mAP of HOG varied from draw to draw by 0.02 to 0.04 (sd); the mean
of ten is settled to about 0.01; with the 24 test identities to 0.006. Who validates matters more: 0.05 (sd over seeds).
"""
VAL_SHARE = 0.25
"""Share of the training identities that validate the search."""
MIN_VAL_IDENTITIES = 8
"""At least so many validation identities if the training identities allow it: a smaller gallery says little."""


def generator(seed: int, *purpose: str) -> np.random.Generator:
    """A random generator of its own for each purpose, so that adding one never changes another."""
    return np.random.default_rng([seed, *(zlib.crc32(word.encode("utf-8")) for word in purpose)])


def leaking_identities(table: pd.DataFrame) -> frozenset[str]:
    """Identities who are test identities in one aspect and training or validation identities in another of ``table`` [N
    rows].
    """
    tested = set(table.loc[table["subset"] == "test", "identity"])
    trained = set(table.loc[table["subset"].isin(["train", "val"]), "identity"])
    return frozenset(tested & trained)


def training_rows(prepared: Prepared, aspects: Sequence[Aspect], *, which: Literal["train", "train_all"]) -> np.ndarray:
    """Manifest rows to train on, ascending, int64 [n].

    ``train`` leaves the search's validation identities out; ``train_all`` (train + val) is for the final fit only.
    Under the published cut, asking for several aspects drops the identities that are test identities in any aspect;
    asking for one keeps them, because the published tables do. Raises InputError if no row is left.
    """
    manifest = prepared.manifest
    wanted = [aspect.value for aspect in aspects]
    chosen = manifest["aspect"].isin(wanted)
    chosen &= manifest["subset"].isin(["train"] if which == "train" else ["train", "val"])
    if prepared.protocol.cut is Cut.PUBLISHED and len(set(wanted)) > 1:
        chosen &= ~manifest["identity"].isin(leaking_identities(manifest))
    rows = np.flatnonzero(chosen.to_numpy()).astype(np.int64)
    if not len(rows):
        have = ", ".join(sorted(set(manifest["aspect"])))
        raise InputError(f"{prepared.folder}: no training image of {', '.join(wanted) or 'no aspect'}; it has {have}")
    return rows


def choose_val(table: pd.DataFrame, *, seed: int) -> frozenset[str]:
    """Training identities that validate the search, by iterative stratification over aspects (Sechidis 2011,
    ECML-PKDD).

    Only identities whose every row is a training row and who have two images in each of their aspects are eligible. In
    each step the aspect that is furthest below its share gets one of its identities at random. Raises InputError if
    fewer than two identities could be chosen, or fewer than two would be left to train on.
    """
    leaking = leaking_identities(table)
    training = table[(table["subset"] == "train") & ~table["identity"].isin(leaking)]
    identities = _aspects_of(training)
    counts = training.groupby(["identity", "aspect"]).size().groupby("identity").min()
    eligible = {identity for identity in identities if counts[identity] >= 2}
    wanted = min(max(round(VAL_SHARE * len(identities)), MIN_VAL_IDENTITIES), len(identities) // 2)
    if wanted < 2 or len(eligible) < 2:
        raise InputError(
            f"no validation split with a gallery match: {len(eligible)} of {len(identities)} training identities have "
            f"two or "
            "more images an aspect; at least 4 identities, 2 of them with two images, are needed"
        )
    share = wanted / len(identities)
    target = {aspect: share * sum(aspect in have for have in identities.values()) for aspect in set(training["aspect"])}
    return _fill(target, {identity: identities[identity] for identity in sorted(eligible)}, wanted=wanted, seed=seed)


def _aspects_of(table: pd.DataFrame) -> dict[str, frozenset[str]]:
    pairs = table[["identity", "aspect"]].drop_duplicates()
    return {str(identity): frozenset(group["aspect"]) for identity, group in pairs.groupby("identity")}


def _fill(target: dict[str, float], candidates: dict[str, frozenset[str]], *, wanted: int, seed: int) -> frozenset[str]:
    random = generator(seed, "val people")
    missing, chosen = dict(target), set[str]()
    while len(chosen) < wanted:
        left = {identity: have for identity, have in candidates.items() if identity not in chosen}
        open_aspects = [aspect for aspect in sorted(missing) if any(aspect in have for have in left.values())]
        if not open_aspects:
            break
        neediest = max(open_aspects, key=lambda aspect: missing[aspect] / target[aspect])
        holders = [identity for identity, have in left.items() if neediest in have]
        # An identity that also has an aspect which is full already is the second choice.
        fitting = [identity for identity in holders if all(missing[aspect] > 0 for aspect in left[identity])]
        identity = str(random.choice(fitting or holders))
        chosen.add(identity)
        for aspect in left[identity]:
            missing[aspect] -= 1
    return frozenset(chosen)


def choose_closed_val(table: pd.DataFrame, *, seed: int) -> tuple[int, ...]:
    """The published validation rows: one random image of each training identity of each aspect, ascending."""
    training = table[table["subset"].isin(["train", "val"])]
    rows: list[int] = []
    for aspect, part in training.groupby("aspect"):
        rows += _one_each(part, generator(seed, "closed val", str(aspect)))
    return tuple(sorted(rows))


def _one_each(part: pd.DataFrame, random: np.random.Generator) -> list[int]:
    ordered = part.sort_values(["identity", "path"])
    return [int(random.choice(group.index.to_numpy())) for _, group in ordered.groupby("identity")]


def make_gallery_splits(table: pd.DataFrame, subset: Literal["val", "test"], *, seed: int) -> tuple[GallerySplit, ...]:
    """Ten seeded gallery splits: one image of each identity of an aspect is its gallery, all its others are queries.

    Of an identity with several sessions those of the gallery's session are not: images of one burst find each other.

    Distractors join every test gallery of their aspect; validation galleries hold validation identities only, so that
    the search never sees what the test uses. Raises InputError if no query has a match.
    """
    part, others = table[table["subset"] == subset], table[table["subset"] == "distractor"]
    gallery_splits = tuple(
        _gallery_split(part, others if subset == "test" else others[:0], seed, f"{subset} {i}")
        for i in range(NUM_GALLERY_SPLITS)
    )
    if not any(gallery_splits[0].query.values()):
        raise InputError(
            f"{subset}: no query has a match in the gallery; identities with two images of an aspect are needed"
        )
    return gallery_splits


def _gallery_split(part: pd.DataFrame, distractors: pd.DataFrame, seed: int, name: str) -> GallerySplit:
    gallery: dict[str, tuple[int, ...]] = {}
    query: dict[str, tuple[int, ...]] = {}
    for aspect, rows in part.groupby("aspect"):
        key = str(aspect)
        in_gallery = _one_each(rows, generator(seed, name, key))
        beside_gallery = _same_session(rows, in_gallery)
        beside = distractors.index[distractors["aspect"] == key]
        gallery[key] = tuple(sorted([*in_gallery, *map(int, beside)]))
        query[key] = tuple(sorted(map(int, set(rows.index) - set(in_gallery) - beside_gallery)))
    return GallerySplit(gallery=gallery, query=query)


def _same_session(rows: pd.DataFrame, in_gallery: list[int]) -> set[int]:
    """Rows of the session of an identity's gallery image, if the identity has several sessions."""
    found: set[int] = set()
    for row in in_gallery if rows[SESSION].ne("").any() else ():
        own = rows[rows["identity"] == rows.at[row, "identity"]]
        if own[SESSION].nunique() > 1:
            found.update(map(int, own.index[own[SESSION] == own.at[row, SESSION]]))
    return found


def session_notes(table: pd.DataFrame) -> tuple[str, ...]:
    """What is to be said of query and gallery from one session, for a table [N rows] in which sessions are named."""
    if table[SESSION].eq("").all():
        return ()
    sessions = table.groupby(["identity", "aspect"])[SESSION].nunique()
    single = int((sessions == 1).sum())
    if not single:
        return ()
    return (
        f"{single} of {len(sessions)} identities (an aspect) have one session only: query and gallery are from it, and "
        "images of one burst may flatter",
    )


def halves(keys: Sequence[str], *, test_share: float = 0.5) -> frozenset[str]:
    """The identities cut off for test: the last ``test_share`` of the ordered, distinct ``keys``, at least one."""
    num_test = max(1, math.floor(len(keys) * test_share))
    return frozenset(keys[len(keys) - num_test :])
