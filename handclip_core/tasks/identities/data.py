"""Data for the task."""

from handclip_core.data.training import Part, TrainingData
from handclip_core.tasks.base import Split, Towers
from handclip_core.tasks.galleries import GalleryData
from handclip_core.tasks.identities.evaluator import IdentityEvaluator


class IdentityData(GalleryData):
    """A prepared data set whose images train the strategies with the identities as classes."""

    def training_data(self, part: Part, towers: Towers) -> TrainingData:
        """The training images of the experiment's aspects."""
        return TrainingData(self.prepared, self.aspects, part, zero_shot=towers.projected, read=towers.read)

    def evaluator(self, split: Split, towers: Towers) -> IdentityEvaluator:
        """Scores over the gallery splits of ``split``."""
        return IdentityEvaluator(
            self,
            self.rows(split),
            towers,
            gallery_splits=self.gallery_splits(split),
            gallery=self.gallery,
            distance=self.distance,
        )
