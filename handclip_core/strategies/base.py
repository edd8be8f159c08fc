"""What every strategy is: settings that turn data and a backbone into a model and a tuple of phases."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator

from handclip_core.config import Config
from handclip_core.data.augment import AugmentSettings
from handclip_core.data.sampling import SamplerSettings
from handclip_core.data.training import LabelBy, Labelled, TrainingData
from handclip_core.engine.phase import DataSpec, Optim, Phase, Train
from handclip_core.errors import InputError
from handclip_core.losses.captioned import CaptionedLoss
from handclip_core.losses.settings import Losses
from handclip_core.losses.term import Term
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.heads import TextHead
from handclip_core.models.neck import NeckKind, NeckSettings
from handclip_core.tasks.base import LabelledTask, Task
from handclip_core.types import Aspect, Templates


class Strategy(Config, ABC):
    """A way to fine-tune CLIP. Subclasses are frozen settings; they carry no callables and serialise to JSON."""

    name: str
    """Which strategy this is."""

    tasks: ClassVar[tuple[type[Task], ...]] = (Task,)
    """The tasks that the strategy serves: every one, unless it says otherwise."""
    because: ClassVar[str] = ""
    """What of the strategy leaves other tasks out, as words after its name."""
    reads_text: ClassVar[bool] = False
    """Whether the strategy needs CLIP's text tower."""
    trains_text: ClassVar[bool] = False
    """Whether the text tower is trained, and saved with the model."""
    trains: ClassVar[bool] = True
    """Whether anything is trained by gradients; if not, budget and seed make no difference."""

    needs_aspects: ClassVar[bool] = False
    """Whether there must be training images whose aspect is known."""
    templates: Templates = Templates.PHOTO
    """Sentences around the names of classes, in tasks that have such names: from them the head begins, or they are read
    by the text tower that is trained."""

    @abstractmethod
    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """The model before training; random weights come from torch's global generator."""

    @abstractmethod
    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """What to train, on what, in which order."""

    def with_names(self, model: HandModel, data: TrainingData, *, plain: bool = False) -> HandModel:
        """``model`` with a head that begins as the zero-shot classifier, if classes have names and its neck lets it.

        ``plain`` asks for cosines, which margin losses scale themselves.
        """
        if data.class_names and model.neck.begins_as_projected:
            texts = data.class_texts(self.templates)
            model.head = TextHead(texts.embedding, scale=1.0 if plain else 1 / texts.temperature)
        return model

    def metric_labels(self, data: TrainingData) -> Labelled:
        """The training images, and their classes, that a metric in closed form is fitted to."""
        return data.labelled(LabelBy.PERSON_ASPECT)

    @property
    def of_images(self) -> "Strategy":
        """A strategy whose model embeds images as this one's does, and has no text tower."""
        return self


class LabelledStrategy(Strategy):
    """Settings of the strategies that read who the training images show."""

    tasks: ClassVar[tuple[type[Task], ...]] = (LabelledTask,)
    because: ClassVar[str] = "learns to tell classes apart"
    neck: NeckSettings = NeckSettings()
    """What stands between image tower and identity head, and the metric on top of it."""
    labels: LabelBy = LabelBy.PERSON_ASPECT
    """What counts as one class."""

    def metric_labels(self, data: TrainingData) -> Labelled:
        """All training images with the strategy's classes."""
        return data.labelled(self.labels)

    def with_metric(self, model: HandModel, data: TrainingData) -> HandModel:
        """``model`` with the metric of ``neck``, not yet fitted."""
        labelled = self.metric_labels(data)
        vectors, num = model.metric.widths, len(labelled.rows)
        model.metric = self.neck.metric.build(vectors, num_images=num, num_classes=labelled.num_classes)
        return model


class IdentityStrategy(LabelledStrategy):
    """Settings of the strategies that learn to tell the training identities apart."""

    optim: Optim = Optim()
    """Optimiser and schedule of every phase."""
    losses: Losses = Losses()
    """What is minimised."""
    head_lr_scale: float = Field(1.0, gt=0, le=10_000)
    """Learning rate of neck and head, relative to the rest."""
    sampler: SamplerSettings = SamplerSettings()
    """How images come together in a batch."""
    augment: AugmentSettings = AugmentSettings()
    """Random changes of the training images."""

    @model_validator(mode="after")
    def _pairs_come_together(self) -> Self:
        if self.losses.needs_pairs and not self.sampler.has_pairs:
            raise ValueError(
                "triplet, circle and contrastive loss need several images of a class in a batch: set "
                "sampler.kind to pk, cross_aspect or confusable"
            )
        each, batch = self.sampler.images_each, self.optim.batch_size
        least, words = (2, "two classes") if self.losses.needs_pairs else (1, "one class")
        if self.sampler.has_pairs and batch < least * each:
            raise ValueError(f"optim.batch_size: {batch} images are fewer than {words} of sampler.images_each = {each}")
        return self

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """Backbone, neck and a head for the training label space."""
        neck = self.neck.build(backbone)
        classes = data.labelled(self.labels).num_classes
        model = HandModel(backbone, neck, num_classes=classes, margin_head=self.losses.margin_head)
        return self.with_metric(self.with_names(model, data, plain=self.losses.margin_head), data)

    def data_spec(self, data: TrainingData, *, aspects: Sequence[Aspect] | None = None) -> DataSpec:
        """All training images (of ``aspects``) in the order of the sampler."""
        labelled = data.labelled(self.labels, aspects=aspects)
        sampler = self.sampler.build(self.optim.batch_size, likeness=lambda: data.class_likeness(self.labels))
        return DataSpec(labelled.rows, labelled.pool, sampler=sampler, augment=self.augment)

    def terms(self, model: HandModel, data: TrainingData) -> tuple[Term, ...]:
        """The losses that are on; those with a memory start empty."""
        return (*self.image_terms(model, data), *self.caption_terms(data))

    def image_terms(self, model: HandModel, data: TrainingData) -> tuple[Term, ...]:
        """The losses on images alone."""
        return self.losses.terms(
            num_classes=data.labelled(self.labels).num_classes,
            embedding=model.output_width,
            trunk=model.architecture.width,
            projected=model.architecture.dim,
        )

    def caption_terms(self, data: TrainingData) -> tuple[Term, ...]:
        """The loss between images and their captions, if it is on."""
        settings = self.losses.image_text
        if not settings.weight:
            return ()
        captions = data.captions()
        if len(captions.texts) < 2:
            raise InputError(
                f"strategy.losses.image_text: every training image has the caption '{captions.texts[0]}', so that "
                "nothing is to be told apart; set weight: 0"
            )
        assert data.read is not None, "an experiment context's training data come with the text tower"
        read = data.read(captions.texts)
        loss = settings.build(trained_at=read.temperature)
        captioned = CaptionedLoss(loss, read.embedding, torch.from_numpy(captions.text_of_row))
        return (Term("image_text", captioned, settings.weight),)

    def head(self, model: HandModel) -> tuple[Train, ...]:
        """Neck, if it has weights, and identity head, if a loss reads it."""
        has_neck = model.neck.settings.kind is not NeckKind.NONE
        parts = (*(("neck",) if has_neck else ()), *(("head",) if self.losses.identity.weight else ()))
        return tuple(Train(part, self.head_lr_scale) for part in parts)


def trained_blocks(
    backbone: Backbone, *, layer_decay: float = 1.0, frozen: int = 0, frozen_projection: bool = False
) -> tuple[Train, ...]:
    """Blocks of the backbone after the first ``frozen``: the last at scale 1, each earlier ``layer_decay`` lower.

    The last block is CLIP's projection; at least one block trains, else InputError.
    """
    blocks = backbone.blocks()
    last = len(blocks) - 1
    candidates = range(last if frozen_projection else last + 1)
    if frozen >= len(candidates):
        raise InputError(
            f"strategy.frozen_blocks: {frozen} leaves nothing to train; of the {len(candidates)} blocks of "
            f"{backbone.name}, {len(candidates) - 1} may be frozen"
        )
    return tuple(
        Train(f"backbone.{prefix}", layer_decay ** (last - depth))
        for depth in candidates[frozen:]
        for prefix in blocks[depth]
    )
