"""What the strategies share that train an image tower and a text tower on images with texts."""

from enum import StrEnum
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from handclip_core.data.augment import AugmentSettings
from handclip_core.data.captions import CaptionAugment
from handclip_core.data.samplers import Pool, Shuffled
from handclip_core.data.training import LabelBy, TrainingData
from handclip_core.engine.objective import IDENTITY
from handclip_core.engine.phase import DataSpec, Optim, Phase, Train
from handclip_core.errors import InputError
from handclip_core.losses.identity import cross_entropy
from handclip_core.losses.matching_settings import MatchingKind, MatchingSettings
from handclip_core.losses.term import Term
from handclip_core.models.backbone import Backbone
from handclip_core.models.dual import DualModel, PairModel
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.base import Strategy
from handclip_core.strategies.pull import pull_to_pretrained
from handclip_core.strategies.zero_shot import ZeroShot
from handclip_core.tasks.base import Rows, Task
from handclip_core.tasks.captions.task import Captions
from handclip_core.tasks.classes.task import Classes
from handclip_core.types import ASPECT_INDEX, Aspect


class ClassLoss(StrEnum):
    """What is minimised where images have classes with names."""

    CROSS_ENTROPY = "cross_entropy"
    CONTRASTIVE = "contrastive"


class DualStrategy(Strategy):
    """Settings of the strategies that train on images and texts: on pairs, each once an epoch of pairs, or on classes.

    Where images have classes, what the trained text tower makes of their names in ``templates`` is the classifier.
    """

    tasks: ClassVar[tuple[type[Task], ...]] = (Captions, Classes)
    because: ClassVar[str] = "trains a text tower by what texts say of images"
    reads_text: ClassVar[bool] = True
    trains_text: ClassVar[bool] = True
    optim: Optim = Optim(batch_size=64)
    """Optimiser and schedule."""
    losses: MatchingSettings = MatchingSettings()
    """What is minimised on pairs; of classes under ``cross_entropy`` the temperature alone counts."""
    class_loss: ClassLoss = ClassLoss.CROSS_ENTROPY
    """What is minimised where images have classes: ``cross_entropy`` of finding the class of each image among the texts
    of all classes, or ``contrastive``, ``losses`` on pairs of an image and a sentence with the name of its class, of
    which those of its own class are no negatives."""
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
        """Both towers as they were pretrained; raises InputError for settings of pairs where none are read."""
        losses, sentences, num_classes = self.losses, data.class_sentences(self.templates), len(data.class_names)
        if self._reads_classes(data):
            self._refuse_settings_of_pairs()
            return DualModel(
                backbone,
                sentences=sentences,
                num_classes=num_classes,
                temperature=losses.temperature,
                lowest=losses.lowest_temperature,
            )
        return PairModel(
            backbone,
            data.pairs(self.templates),
            sentences=sentences,
            num_classes=num_classes,
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
        """One phase over all pairs, or over all images with their classes."""
        rows, pool = self._classes(data) if self._reads_classes(data) else self._pairs(data)
        spec = DataSpec(rows, pool, Shuffled(self.optim.batch_size), self.augment)
        towers = self.trained(model)
        train, penalties = (*towers, *self._scalars()), pull_to_pretrained(model, towers, strength=self.pull)
        return (Phase(self.name, spec, train, (self._term(data),), self.tower_optim(model), penalties=penalties),)

    def _reads_classes(self, data: TrainingData) -> bool:
        """Whether every image is compared with the texts of all classes."""
        return bool(data.class_names) and self.class_loss is ClassLoss.CROSS_ENTROPY

    def _classes(self, data: TrainingData) -> tuple[Rows, Pool]:
        labelled = data.labelled(LabelBy.PERSON_ASPECT)
        return labelled.rows, labelled.pool

    def _pairs(self, data: TrainingData) -> tuple[Rows, Pool]:
        pairs = data.pairs(self.templates).first(self.texts.most)
        if len(np.unique(pairs.text)) < 2:
            shown = pairs.texts[pairs.text[0]]
            raise InputError(f"data: every training image has the text '{shown}'; nothing can be learned")
        return pairs.row, Pool(pairs.text, np.full(len(pairs.row), ASPECT_INDEX[Aspect.UNKNOWN], np.int64))

    def _term(self, data: TrainingData) -> Term:
        if self._reads_classes(data):
            return Term(IDENTITY, cross_entropy(smoothing=0.0))
        return Term("captions", self.losses.build(), self.losses.weight)

    def _refuse_settings_of_pairs(self) -> None:
        given, plain = self.losses.model_dump(), MatchingSettings().model_dump()
        of_pairs = [key for key, value in given.items() if value != plain[key] and "temperature" not in key]
        found = [*(f"losses.{key}" for key in of_pairs), *(["texts"] if self.texts != CaptionAugment() else [])]
        if found:
            raise InputError(
                "strategy.class_loss: cross_entropy reads the names of all classes, and pairs alone read "
                f"{', '.join(found)}: leave that out, or set class_loss: contrastive"
            )

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
