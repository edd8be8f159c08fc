"""What the strategies share that have a neck and an identity head for every aspect."""

from typing import ClassVar, Self

from pydantic import model_validator

from handclip_core.data.sampling import SamplerKind, SamplerSettings
from handclip_core.data.training import LabelBy, TrainingData
from handclip_core.engine.phase import Train
from handclip_core.errors import InputError
from handclip_core.losses.term import Term
from handclip_core.losses.within_aspects import within_aspects
from handclip_core.models.hand_model import HandModel
from handclip_core.models.neck import NeckKind
from handclip_core.models.views.heads import ViewHeadSettings
from handclip_core.models.views.router import view_aspects
from handclip_core.strategies.tower import TowerStrategy
from handclip_core.tasks.base import Task
from handclip_core.tasks.identities.task import Identities


class PerViewStrategy(TowerStrategy):
    """Settings of the strategies with a branch an aspect: losses compare images within an aspect alone."""

    tasks: ClassVar[tuple[type[Task], ...]] = (Identities,)
    because: ClassVar[str] = "has a part for each aspect of a hand"
    needs_aspects: ClassVar[bool] = True
    labels: LabelBy = LabelBy.PERSON
    """What counts as one class; an identity by default: each aspect's head tells people apart by that aspect alone."""
    sampler: SamplerSettings = SamplerSettings(kind=SamplerKind.BALANCED)
    """How images come together in a batch."""

    @model_validator(mode="after")
    def _pairs_within_an_aspect(self) -> Self:
        if self.losses.needs_pairs and self.sampler.kind is SamplerKind.CROSS_ASPECT:
            raise ValueError(
                "sampler.kind: cross_aspect brings different aspects of a class together, but branches compare "
                "images of one; choose pk, best with labels: person_aspect"
            )
        return self

    def head_settings(self, data: TrainingData) -> ViewHeadSettings:
        """What the branches are made of; raises InputError if no training image has a known aspect."""
        aspects = view_aspects(data.shown_aspects)
        if not aspects:
            raise InputError("strategy.name: branches need training images whose aspect is known")
        classes = data.labelled(self.labels).num_classes
        return ViewHeadSettings(aspects, self.neck, classes, margin_head=self.losses.margin_head)

    def head(self, model: HandModel) -> tuple[Train, ...]:
        """Necks, if they have weights, and identity heads, if a loss reads them."""
        del model
        necks = ("branches.necks",) if self.neck.kind is not NeckKind.NONE else ()
        heads = ("branches.heads",) if self.losses.identity.weight else ()
        return tuple(Train(part, self.head_lr_scale) for part in (*necks, *heads))

    def image_terms(self, model: HandModel, data: TrainingData) -> tuple[Term, ...]:
        """The losses on images, of each aspect by itself."""
        terms = super().image_terms
        return within_aspects(view_aspects(data.shown_aspects), lambda: terms(model, data))
