"""What the strategies share that train an image tower and a text tower on captions."""

from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from handclip_core.data.augment import AugmentSettings
from handclip_core.data.captions import CaptionAugment
from handclip_core.data.samplers import Pool, Shuffled
from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import DataSpec, Optim, Phase, Train
from handclip_core.errors import InputError
from handclip_core.losses.matching_settings import MatchingKind, MatchingSettings
from handclip_core.losses.term import Term
from handclip_core.models.backbone import Backbone
from handclip_core.models.dual import DualModel
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.base import Strategy
from handclip_core.strategies.pull import pull_to_pretrained
from handclip_core.strategies.zero_shot import ZeroShot
from handclip_core.tasks.base import Task
from handclip_core.tasks.captions.task import Captions
from handclip_core.types import ASPECT_INDEX, Aspect


class DualStrategy(Strategy):
    """Settings of the strategies that train on pairs of an image and a caption, each pair once an epoch of pairs."""

    tasks: ClassVar[tuple[type[Task], ...]] = (Captions,)
    reads_text: ClassVar[bool] = True
    optim: Optim = Optim(batch_size=64)
    """Optimiser and schedule."""
    losses: MatchingSettings = MatchingSettings()
    """What is minimised."""
    augment: AugmentSettings = AugmentSettings()
    """Random changes of the training images."""
    texts: CaptionAugment = CaptionAugment()
    """Random changes of the training captions, and how many of an image there are."""
    vision: float = Field(1.0, ge=0, le=10_000)
    """Learning rate of the image tower relative to ``optim.lr``; 0 freezes it."""
    text: float = Field(1.0, ge=0, le=10_000)
    """Learning rate of the text tower relative to ``optim.lr``; 0 freezes it."""
    pull: float = Field(0.0, ge=0, le=1e6)
    """Strength lambda of lambda * sum (theta - pretrained)^2 over what is trained of the pretrained towers."""

    @model_validator(mode="after")
    def _a_tower_trains(self) -> Self:
        if not (self.vision or self.text):
            raise ValueError("vision and text: both are 0, so nothing is trained; give one a rate")
        return self

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """Both towers as they were pretrained."""
        losses = self.losses
        return DualModel(
            backbone,
            data.pairs,
            temperature=losses.temperature,
            lowest=losses.lowest_temperature,
            bias=losses.bias,
            word_dropout=self.texts.word_dropout,
        )

    @property
    def of_images(self) -> Strategy:
        """The image tower."""
        return ZeroShot()

    def trained(self, model: HandModel) -> tuple[Train, ...]:
        """What of the towers is trained, with its learning rate."""
        raise NotImplementedError

    def tower_optim(self, model: HandModel) -> Optim:
        """Optimiser and schedule with the rate for the model's towers."""
        del model
        return self.optim

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase over all pairs."""
        pairs = data.pairs.first(self.texts.most)
        if len(np.unique(pairs.text)) < 2:
            shown = pairs.texts[pairs.text[0]]
            raise InputError(f"data: every training image has the caption '{shown}'; nothing can be learned")
        aspects = np.full(len(pairs.row), ASPECT_INDEX[Aspect.UNKNOWN], np.int64)
        spec = DataSpec(pairs.row, Pool(pairs.text, aspects), Shuffled(self.optim.batch_size), self.augment)
        towers = self.trained(model)
        terms = (Term("captions", self.losses.build(), self.losses.weight),)
        train, penalties = (*towers, *self._scalars()), pull_to_pretrained(model, towers, strength=self.pull)
        return (Phase(self.name, spec, train, terms, self.tower_optim(model), penalties=penalties),)

    def _scalars(self) -> tuple[Train, ...]:
        """The temperature, if it is learned, and the bias of the sigmoid loss."""
        learned = self.losses.has_temperature and self.losses.learn_temperature
        bias = self.losses.kind is MatchingKind.SIGMOID
        return (*((Train("backbone.logit_scale"),) if learned else ()), *((Train("bias"),) if bias else ()))


def body(backbone: Backbone, *, vision: float, text: float) -> tuple[Train, ...]:
    """All blocks of both towers but their projections; rate 0 leaves a tower out."""
    towers = ((vision, backbone.blocks()), (text, backbone.text_blocks()))
    return tuple(
        Train(f"backbone.{prefix}", rate)
        for rate, blocks in towers
        if rate
        for block in blocks[:-1]
        for prefix in block
    )


def projections(backbone: Backbone, *, vision: float, text: float) -> tuple[Train, ...]:
    """The last block of both towers; rate 0 leaves a tower out."""
    towers = ((vision, backbone.blocks()), (text, backbone.text_blocks()))
    return tuple(Train(f"backbone.{prefix}", rate) for rate, blocks in towers if rate for prefix in blocks[-1])
