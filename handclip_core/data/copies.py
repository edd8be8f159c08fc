"""The same image more than once in a source: told, or left out."""

from dataclasses import replace
from typing import cast

import numpy as np

from handclip_core.data.collection import Collection, summary
from handclip_core.data.leaks import same_images


def with_note_on_copies(collection: Collection) -> Collection:
    """``collection`` with a note where files are byte for byte the same ([N] rows with ``hash``)."""
    table = collection.table
    copies = table["hash"].duplicated()
    if not copies.any():
        return collection
    note = (
        f"{int(copies.sum())} files are copies of another, byte for byte ({summary(list(table.loc[copies, 'path']))})"
    )
    return replace(collection, notes=(*collection.notes, note))


def without_copies(collection: Collection) -> Collection:
    """``collection`` without copies, which join its problems.

    Of equal files of one identity the first stays. If two identities have the same file or the same image, its
    identity is not known, so none stays.
    """
    table = collection.table
    reasons: dict[int, str] = {}
    for _, group in table[table["hash"].duplicated(keep=False)].groupby("hash"):
        first, second = group["path"].iloc[:2]
        if group["identity"].nunique() == 1:
            reasons |= {int(row): f"same content as {first}" for row in group.index[1:]}
            continue
        for row, path in group["path"].items():
            reasons[cast(int, row)] = f"same content as {second if path == first else first}, under another identity"
    rows = np.arange(len(table))
    paths = list(table["path"])
    for i, j in same_images(collection.root, table, rows, rows).tolist():
        reasons.setdefault(i, f"same image as {paths[j]}, under another identity")
    problems = tuple(f"{paths[row]}: {reasons[row]}" for row in sorted(reasons))
    kept = table.drop(index=list(reasons)).reset_index(drop=True)
    return replace(collection, table=kept, problems=collection.problems + problems)
