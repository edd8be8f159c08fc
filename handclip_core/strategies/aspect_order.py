"""What the strategies share that learn one aspect after another."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import field_validator

from handclip_core.data.sampling import SamplerKind, SamplerSettings
from handclip_core.data.training import LabelBy, TrainingData
from handclip_core.engine.phase import Penalty, Phase
from handclip_core.errors import InputError
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.tower import TowerStrategy
from handclip_core.tasks.base import Task
from handclip_core.tasks.identities.task import Identities
from handclip_core.types import HAND_ASPECTS, Aspect


class AspectOrder(TowerStrategy):
    """Settings of the strategies with a phase an aspect, all of the same share of the budget.

    Every aspect is scored before the first phase and after each: the forgetting matrix in ``metrics.json``.
    """

    tasks: ClassVar[tuple[type[Task], ...]] = (Identities,)
    because: ClassVar[str] = "learns one aspect of the same identities after another"
    needs_aspects: ClassVar[bool] = True
    labels: LabelBy = LabelBy.PERSON
    """What counts as one class; an identity by default, so that all phases train one head."""
    sampler: SamplerSettings = SamplerSettings(kind=SamplerKind.BALANCED)
    """How images come together in a batch; balanced, every identity equally often."""
    order: tuple[Aspect, ...] = HAND_ASPECTS
    """Aspects in the order of training; those that no training image shows are passed over."""

    @field_validator("order")
    @classmethod
    def _no_aspect_twice(cls, order: tuple[Aspect, ...]) -> tuple[Aspect, ...]:
        if len(set(order)) != len(order) or not order:
            raise ValueError("name each aspect once, and at least one")
        return order

    def aspect_phases(
        self, model: HandModel, data: TrainingData, *, penalties: Sequence[Penalty] = ()
    ) -> tuple[Phase, ...]:
        """A phase an aspect, all under the same penalties."""
        order = [aspect for aspect in self.order if aspect in data.shown_aspects]
        if not order:
            raise InputError(f"strategy.order: no training image shows any of {', '.join(self.order)}")
        return tuple(
            Phase(
                aspect,
                self.data_spec(data, aspects=[aspect]),
                self.trained(model),
                self.terms(model, data),
                self.tower_optim(model),
                penalties=tuple(penalties),
                evaluation_point=True,
            )
            for aspect in order
        )
