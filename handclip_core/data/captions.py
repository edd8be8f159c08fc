"""Captions: what the manifest says of an image, as a sentence that CLIP can read."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from handclip_core.config import Config

FACES = {"dorsal": "back", "palmar": "palm"}
WHOSE = {"male": "man's ", "female": "woman's "}
WORN = {"nail_polish": "nail polish", "accessories": "jewellery", "irregularities": "irregularities"}


@dataclass(frozen=True)
class Captions:
    """Different ``texts``, and which of them [n] belongs to each of n rows of a manifest."""

    texts: tuple[str, ...]
    text_of_row: NDArray[np.int64]


@dataclass(frozen=True)
class CaptionPairs:
    """Different ``texts``, and pairs of a manifest ``row`` [P] and a ``text`` [P] that describes it.

    An image may have any number of captions, and a caption may be that of several images.
    """

    texts: tuple[str, ...]
    row: NDArray[np.int64]
    text: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64]) -> "CaptionPairs":
        """The pairs of manifest ``rows`` alone, with the texts that occur in them, in their order."""
        kept = np.isin(self.row, rows)
        used, text = np.unique(self.text[kept], return_inverse=True)
        return CaptionPairs(tuple(self.texts[one] for one in used), self.row[kept], text.astype(np.int64))

    def first(self, most: int | None) -> "CaptionPairs":
        """The first ``most`` pairs of each row, in their order, with the same texts; all if None."""
        if most is None:
            return self
        kept = pd.Series(self.row).groupby(self.row).cumcount().to_numpy() < most
        return CaptionPairs(self.texts, self.row[kept], self.text[kept])


class CaptionAugment(Config):
    """Random changes of captions, and how many an image has."""

    word_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the words that a training step leaves out of a caption; one stays at least."""
    most: int | None = Field(None, ge=1)
    """Captions of an image that are trained on, at most, the first ones; none for all."""


def captions(manifest: pd.DataFrame) -> Captions:
    """A caption for every row of ``manifest``, for instance "a photo of the back of a man's right hand with fair skin".

    It names the aspect, gender, skin tone, nail polish, jewellery and irregularities, if they are known. Nothing
    in it is particular to one identity.
    """
    known = manifest.assign(**{column: manifest[column].fillna(0) for column in WORN})
    sentences = [_sentence(row) for row in known.to_dict("records")]
    texts, text_of_row = np.unique(np.array(sentences, dtype=str), return_inverse=True)
    return Captions(tuple(str(text) for text in texts), text_of_row.astype(np.int64))


def _sentence(row: Mapping[Hashable, Any]) -> str:
    face, _, side = str(row["aspect"]).partition(" ")
    whose = WHOSE.get(str(row["gender"]), "")
    hand = f"the {FACES[face]} of a {whose}{side} hand" if face in FACES else f"a {whose}hand"
    skin = [f"{row['skin_tone']} skin"] if row["skin_tone"] else []
    seen = [*skin, *(words for column, words in WORN.items() if row[column] == 1)]
    listed = " and ".join([", ".join(seen[:-1]), seen[-1]] if len(seen) > 1 else seen)
    return f"a photo of {hand}" + (f" with {listed}" if listed else "")
