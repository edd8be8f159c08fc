"""What the strategies share that learn one aspect after another."""

from collections.abc import Sequence
from typing import Self

from pydantic import model_validator

from handclip_core.data.sampling import SamplerKind, SamplerSettings
from handclip_core.data.training import LabelBy, TrainingData
from handclip_core.engine.phase import Penalty, Phase
from handclip_core.errors import InputError
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.tower import TowerStrategy
from handclip_core.types import HAND_ASPECTS, Aspect


class AspectOrder(TowerStrategy):
    """Settings of the strategies with a phase an aspect, all of the same share of the budget.

    Every aspect is scored before the first phase and after each: the forgetting matrix in ``metrics.json``.
    """

    labels: LabelBy = LabelBy.PERSON
    """What counts as one class; a person by default, so that all phases train one head."""
    sampler: SamplerSettings = SamplerSettings(kind=SamplerKind.BALANCED)
    """How pictures come together in a batch; balanced, every person equally often."""
    order: tuple[Aspect, ...] = HAND_ASPECTS
    """Aspects in the order of training; those that the experiment does not use are passed over."""

    @model_validator(mode="after")
    def _no_aspect_twice(self) -> Self:
        if len(set(self.order)) != len(self.order) or not self.order:
            raise ValueError("name each aspect once, and at least one")
        return self

    def aspect_phases(
        self, model: HandModel, data: TrainingData, *, penalties: Sequence[Penalty] = ()
    ) -> tuple[Phase, ...]:
        """A phase an aspect, all under the same penalties."""
        order = [aspect for aspect in self.order if aspect in data.aspects]
        if not order:
            raise InputError(f"strategy.order: none of {', '.join(self.order)} is an aspect of the data")
        return tuple(
            Phase(
                aspect,
                self.data_spec(data, aspects=[aspect]),
                self.trained(model),
                self.terms(model, data),
                self.optim,
                penalties=tuple(penalties),
                milestone=True,
            )
            for aspect in order
        )
