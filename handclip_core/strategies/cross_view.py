"""Pull the aspects of one identity, or of one hand, together."""

from typing import ClassVar, Literal

from pydantic import field_validator

from handclip_core.data.sampling import SamplerKind, SamplerSettings
from handclip_core.data.training import LabelBy, TrainingData
from handclip_core.engine.phase import Phase
from handclip_core.losses.settings import ContrastiveSettings, Losses
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.tower import TowerStrategy
from handclip_core.tasks.base import Task
from handclip_core.tasks.identities.task import Identities


class CrossView(TowerStrategy):
    """Supervised contrastive loss (Khosla 2020, arXiv 2004.11362), InfoNCE or triplets across aspects.

    Every class of a batch comes with images of several of its aspects. With ``labels: hand``, the palm and the back
    of a hand attract each other while the identity's other hand stays a negative; with ``labels: person`` all four do.
    The gallery of all aspects counts every other aspect of the query's identity as a distractor.
    """

    name: Literal["cross_view"] = "cross_view"
    """Which strategy this is."""
    tasks: ClassVar[tuple[type[Task], ...]] = (Identities,)
    because: ClassVar[str] = "draws the aspects of a hand together"
    labels: LabelBy = LabelBy.HAND
    """What counts as one class: images of a class attract each other."""
    losses: Losses = Losses(contrastive=ContrastiveSettings(weight=1.0))
    """What is minimised."""
    sampler: SamplerSettings = SamplerSettings(kind=SamplerKind.CROSS_ASPECT)
    """How images come together in a batch."""

    @field_validator("labels")
    @classmethod
    def _several_aspects_a_class(cls, labels: LabelBy) -> LabelBy:
        if labels is LabelBy.PERSON_ASPECT:
            raise ValueError("an identity's aspect by itself has no other view to be pulled to; choose hand or person")
        return labels

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase over all training images."""
        terms, optim = self.terms(model, data), self.tower_optim(model)
        return (Phase("cross view", self.data_spec(data), self.trained(model), terms, optim),)
