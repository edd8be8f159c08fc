"""One model for all aspects, none of which outweighs another."""

from typing import Literal

from handclip_core.data.sampling import SamplerKind, SamplerSettings
from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Phase
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.tower import TowerStrategy


class Joint(TowerStrategy):
    """Full fine-tuning on all aspects at once, balanced over aspects and identities.

    Identities are relabelled an aspect at a time, so that no two hands share a class: that is how the gallery of all
    aspects counts. The upper bound against which sequential training is measured (Chaudhry 2018, arXiv 1801.10112).
    """

    name: Literal["joint"] = "joint"
    """Which strategy this is."""
    sampler: SamplerSettings = SamplerSettings(kind=SamplerKind.BALANCED)
    """How images come together in a batch."""

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase over all training images."""
        terms, optim = self.terms(model, data), self.tower_optim(model)
        return (Phase("joint", self.data_spec(data), self.trained(model), terms, optim),)
