"""What a strategy sees of the data: training rows and class labels, nothing of validation or test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.data.captions import CaptionPairs, Captions, captions
from handclip_core.data.manifest import Prepared
from handclip_core.data.samplers import Pool
from handclip_core.data.splits import training_rows
from handclip_core.types import ASPECT_INDEX, Aspect

Part = Literal["train", "train_all"]


class LabelBy(StrEnum):
    """What counts as one class: an identity, a hand of an identity, or an aspect (as the gallery of all aspects
    counts).
    """

    PERSON = "person"
    HAND = "hand"
    PERSON_ASPECT = "person_aspect"


_CLASS_OF_ASPECT: dict[LabelBy, Callable[[str], str]] = {
    LabelBy.PERSON: lambda _: "",
    LabelBy.HAND: lambda aspect: f"/{aspect.split()[-1]}",
    LabelBy.PERSON_ASPECT: lambda aspect: f"/{aspect}",
}
"""What of an aspect's name goes into the name of a class."""


@dataclass(frozen=True)
class Labelled:
    """Manifest ``rows`` [n] with their classes and aspects; ``num_classes`` counts those of all training rows."""

    rows: NDArray[np.int64]
    pool: Pool
    num_classes: int


@dataclass(frozen=True)
class ReadTexts:
    """What the pretrained text tower makes of texts: embeddings [T, D], not normalised; and its ``temperature``.

    That is what it was trained to divide the cosines of images and texts by. Of the texts ``num_cut`` are longer than
    what it reads: they end early, with the end-of-text token.
    """

    embedding: Tensor
    temperature: float
    num_cut: int = 0


@dataclass(frozen=True)
class TrainingData:
    """The training part of a prepared data set, restricted to ``aspects``. Nothing in it is ever changed."""

    prepared: Prepared
    aspects: tuple[Aspect, ...]
    part: Part = "train"
    zero_shot: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
    """From manifest rows [n] to the pretrained backbone's projected embeddings [n, D]."""
    read: Callable[[Sequence[str]], ReadTexts] | None = None
    """The pretrained text tower."""

    @property
    def num_images(self) -> int:
        """Images of one epoch."""
        return len(self.rows)

    def labelled(self, by: LabelBy, *, aspects: Sequence[Aspect] | None = None) -> Labelled:
        """Rows and labels, of ``aspects`` alone where given; the label space is that of all training rows."""
        if by not in self._labels:
            self._labels[by] = np.unique(self._class_names(by), return_inverse=True)
        classes, labels = self._labels[by]
        indices = self.aspect_indices
        keep = np.ones(len(indices), bool)
        if aspects is not None:
            keep = np.isin(indices, [ASPECT_INDEX[aspect] for aspect in aspects])
        return Labelled(self.rows[keep], Pool(labels[keep].astype(np.int64), indices[keep]), num_classes=len(classes))

    def class_likeness(self, by: LabelBy) -> NDArray[np.float32]:
        """Cosines [C, C] of the classes, each the mean of its training images as the pretrained tower embeds them."""
        assert self.zero_shot is not None, "training data of an experiment context have zero-shot embeddings"
        labelled = self.labelled(by)
        vectors = _unit(self.zero_shot(labelled.rows))
        means = np.zeros((labelled.num_classes, vectors.shape[1]), np.float32)
        np.add.at(means, labelled.pool.labels, vectors)
        means = _unit(means)
        return np.asarray(means @ means.T, np.float32)

    @property
    def shown_aspects(self) -> tuple[Aspect, ...]:
        """Those of ``aspects`` that training images show."""
        shown = set(self.prepared.manifest["aspect"].iloc[self.rows])
        return tuple(aspect for aspect in self.aspects if aspect in shown)

    def captions(self) -> Captions:
        """What the manifest says of the training images; all other rows have the text -1."""
        found = captions(self.prepared.manifest.iloc[self.rows])
        text_of_row = np.full(len(self.prepared.manifest), -1, np.int64)
        text_of_row[self.rows] = found.text_of_row
        return Captions(found.texts, text_of_row)

    def pairs(self, templates: str) -> CaptionPairs:
        """The training images with all texts that each has: its captions, one unless the data give more.

        Where classes have names, they are those of the image's class in the ``templates`` called so.
        """
        del templates
        found = self.captions()
        return CaptionPairs(found.texts, self.rows, found.text_of_row[self.rows])

    @property
    def meets_texts(self) -> bool:
        """Whether embeddings of images are compared with those of texts."""
        return bool(self.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called; nothing in tasks whose classes have no names."""
        return ()

    def class_sentences(self, templates: str) -> list[str]:
        """The names of the classes in the templates called so, a class's together; nothing without names."""
        del templates
        return []

    def class_texts(self, templates: str) -> ReadTexts:
        """A unit vector a class [P, D] from its name in the templates called so, where classes have names."""
        raise NotImplementedError

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Manifest rows to train on, ascending."""
        return training_rows(self.prepared, self.aspects, which=self.part)

    @cached_property
    def aspect_indices(self) -> NDArray[np.int64]:
        """The aspect of each of ``rows``, by ASPECT_INDEX."""
        aspects = self.prepared.manifest["aspect"].iloc[self.rows]
        return np.array([ASPECT_INDEX[aspect] for aspect in aspects], np.int64)

    @cached_property
    def _labels(self) -> dict[LabelBy, tuple[NDArray[np.str_], NDArray[np.int64]]]:
        return {}

    def _class_names(self, by: LabelBy) -> NDArray[np.str_]:
        manifest = self.prepared.manifest.iloc[self.rows]
        names = manifest["identity"].astype(str) + manifest["aspect"].astype(str).map(_CLASS_OF_ASPECT[by])
        return names.to_numpy(dtype=str)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
