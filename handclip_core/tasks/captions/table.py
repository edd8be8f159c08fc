"""Which captions belong to which image: one table, in a file beside the manifest."""

import json
from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import Field

from handclip_core.config import Config
from handclip_core.data.captions import CaptionPairs, captions
from handclip_core.data.manifest import Prepared
from handclip_core.data.tables import read_table
from handclip_core.drawn import CAPTION_COLUMNS, CAPTIONS_NAME
from handclip_core.errors import InputError

FILE = "captions.json"
SOURCE = "captions"
"""What the protocol of a data set with such a file names as its source."""


class CaptionTable(Config):
    """The captions of a prepared data set: ``texts``, and pairs of a manifest row and a text."""

    manifest_hash: str
    """SHA-256 of ``manifest.csv``: the two files belong together."""
    texts: tuple[str, ...] = Field(min_length=1)
    """Different captions."""
    row: tuple[int, ...]
    """The manifest row of each pair, ascending."""
    text: tuple[int, ...]
    """The caption of each pair, by its place in ``texts``."""

    @classmethod
    def of(cls, captions: Sequence[Sequence[str]], *, manifest_hash: str) -> Self:
        """The table of the ``captions`` of each manifest row; equal ones are one."""
        place: dict[str, int] = {}
        row, text = [], []
        for number, texts in enumerate(captions):
            for one in dict.fromkeys(texts):
                row.append(number)
                text.append(place.setdefault(one, len(place)))
        return cls(manifest_hash=manifest_hash, texts=tuple(place), row=tuple(row), text=tuple(text))

    @property
    def pairs(self) -> CaptionPairs:
        """The same as arrays."""
        return CaptionPairs(self.texts, np.array(self.row, np.int64), np.array(self.text, np.int64))


def read_pairs(prepared: Prepared) -> CaptionPairs:
    """The captions in a folder that ``prepare captions`` wrote; of hands what was drawn, or what the manifest says.

    Raises InputError if the file is damaged or not that of the manifest.
    """
    path = prepared.folder / FILE
    if not path.exists():
        if prepared.protocol.source == SOURCE:
            raise InputError(f"{path}: no such file; run `prepare captions` again")
        return _of_hands(prepared)
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise InputError(f"{path}: damaged; run `prepare captions` again") from None
    found = CaptionTable.parse(values, source=str(path))
    sound = len(found.row) == len(found.text) and max(found.text, default=0) < len(found.texts)
    if found.manifest_hash != prepared.protocol.manifest_hash or not sound:
        raise InputError(f"{path}: not the captions of the manifest beside it; run `prepare captions` again")
    return found.pairs


def _of_hands(prepared: Prepared) -> CaptionPairs:
    manifest, beside = prepared.manifest, prepared.root / CAPTIONS_NAME
    said = captions(manifest)
    by_row = [[said.texts[text]] for text in said.text_of_row]
    if beside.exists():
        rows = {path: row for row, path in enumerate(manifest["path"])}
        for path, text in read_table(beside, required=CAPTION_COLUMNS).rows.to_numpy(dtype=str).tolist():
            if path in rows:
                by_row[rows[path]].append(text)
    return CaptionTable.of(by_row, manifest_hash=prepared.protocol.manifest_hash).pairs
