"""Data for the task: a manifest, and the captions of its rows."""

from dataclasses import dataclass, field

import numpy as np

from handclip_core.data.captions import CaptionPairs
from handclip_core.data.manifest import Prepared
from handclip_core.data.training import Part, TrainingData
from handclip_core.errors import InputError
from handclip_core.tasks.base import Dataset, Rows, Split, Towers
from handclip_core.tasks.captions.evaluator import CaptionEvaluator
from handclip_core.types import Aspect

NONE = CaptionPairs((), np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True)
class CaptionTrainingData(TrainingData):
    """Training images with all captions that the data give them."""

    described: CaptionPairs = field(default=NONE)

    def pairs(self, templates: str) -> CaptionPairs:
        """The captions of the training images."""
        del templates
        return self.described.of(self.rows)

    @property
    def meets_texts(self) -> bool:
        """Embeddings are compared with those of captions."""
        return True


class CaptionData(Dataset):
    """A prepared data set with the ``pairs`` of its rows and captions."""

    def __init__(self, prepared: Prepared, pairs: CaptionPairs) -> None:
        super().__init__(prepared)
        self.pairs = pairs
        for split in ("train", "val", "test"):
            if not len(self._of(split)):
                raise InputError(f"{prepared.folder}: no image with a caption in {split}")

    def rows(self, split: Split) -> Rows:
        """The images of ``split``, ascending."""
        return self._of(split)

    def training_data(self, part: Part, towers: Towers) -> CaptionTrainingData:
        """The training images and their captions."""
        shown = set(self.prepared.manifest["aspect"])
        aspects = tuple(aspect for aspect in Aspect if aspect in shown)
        return CaptionTrainingData(
            self.prepared, aspects, part, zero_shot=towers.projected, read=towers.read, described=self.pairs
        )

    def evaluator(self, split: Split, towers: Towers) -> CaptionEvaluator:
        """Searches among the images and captions of ``split``."""
        rows = self.rows(split)
        return CaptionEvaluator(self, rows, towers, pairs=self.pairs.of(rows))

    def counts(self) -> list[str]:
        """Images and captions of each split, a line each; and how many tested captions are trained on, word for word.

        A caption that fits many images may well be in two splits; it is no leak, but its image is easier to find.
        """
        parts = {split: self.pairs.of(self._of(split)) for split in ("train", "val", "test")}
        lines = [
            f"{split}: {len(self._of(split)):,} images, {len(part.row):,} captions ({len(part.texts):,} different)"
            for split, part in parts.items()
        ]
        shared = len(set(parts["test"].texts) & (set(parts["train"].texts) | set(parts["val"].texts)))
        total = len(parts["test"].texts)
        return [*lines, f"{shared:,} of {total:,} captions of the test are captions of the other images, too"]

    def _of(self, subset: str) -> Rows:
        described = np.zeros(len(self.prepared.manifest), bool)
        described[self.pairs.row] = True
        chosen = (self.prepared.manifest["subset"] == subset).to_numpy() & described
        return np.flatnonzero(chosen).astype(np.int64)
