"""What a strategy sees of the data: training rows and class labels, nothing of validation or test."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from handclip_core.data.manifest import Prepared
from handclip_core.data.splits import training_rows
from handclip_core.types import Aspect

Part = Literal["train", "train_all"]


class LabelBy(StrEnum):
    """What counts as one class: a person, or one aspect of a person (as the gallery of all aspects counts)."""

    PERSON = "person"
    PERSON_ASPECT = "person_aspect"


@dataclass(frozen=True)
class Labelled:
    """Manifest ``rows`` [n] and their class ``labels`` [n]; ``num_classes`` counts those of all training rows."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    num_classes: int


@dataclass(frozen=True)
class TrainingData:
    """The training part of a prepared data set, restricted to ``aspects``."""

    prepared: Prepared
    aspects: tuple[Aspect, ...]
    part: Part = "train"

    @property
    def num_images(self) -> int:
        """Pictures of one epoch."""
        return len(self.rows)

    def labelled(self, by: LabelBy, *, aspects: Sequence[Aspect] | None = None) -> Labelled:
        """Rows and labels, of ``aspects`` alone where given; the label space is that of all training rows."""
        rows = self.rows
        manifest = self.prepared.manifest.iloc[rows]
        identities = manifest["identity"].astype(str)
        names = identities if by is LabelBy.PERSON else identities + "/" + manifest["aspect"].astype(str)
        classes, labels = np.unique(names.to_numpy(dtype=str), return_inverse=True)
        keep = np.ones(len(rows), bool) if aspects is None else manifest["aspect"].isin(list(aspects)).to_numpy()
        return Labelled(rows=rows[keep], labels=labels[keep].astype(np.int64), num_classes=len(classes))

    @property
    def rows(self) -> NDArray[np.int64]:
        """Manifest rows to train on, ascending."""
        return training_rows(self.prepared, self.aspects, which=self.part)
