"""Learn a text for every identity, then let the texts guide the image tower (CLIP-ReID)."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from handclip_core.config import Config
from handclip_core.data.augment import AugmentSettings
from handclip_core.data.samplers import Shuffled
from handclip_core.data.sampling import SamplerKind, SamplerSettings
from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import DataSpec, Optim, Phase, Schedule, Train
from handclip_core.losses.image_text import image_text_supcon
from handclip_core.losses.reading import ReadFrom
from handclip_core.losses.settings import IdentitySettings, ImageTextSettings, Losses, TripletSettings
from handclip_core.losses.term import Loss, Term
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.neck import EmbeddingAt, NeckInput, NeckKind, NeckSettings
from handclip_core.models.prompted import PartedOutput, PromptedModel
from handclip_core.models.prompts import SLOT, Prompts
from handclip_core.strategies.full import Full
from handclip_core.strategies.tower import TowerStrategy
from handclip_core.tasks.base import Task
from handclip_core.tasks.identities.task import Identities
from handclip_core.types import Batch, Output


class PromptSettings(Config):
    """The first stage: a text for every identity."""

    template: str = "A photo of a {} hand."
    """The sentence; the learned tokens take the place of ``{}``, which stands between blanks."""
    num_tokens: int = Field(4, ge=1, le=64)
    """Learned tokens of each identity."""
    share: float = Field(2 / 3, gt=0, lt=1)
    """Share of the budget. Its images count as any others, though cached features make them nearly free."""
    optim: Optim = Optim(lr=3.5e-4, weight_decay=1e-4, batch_size=64, schedule=Schedule.COSINE, warmup=5 / 120)
    """Optimiser and schedule."""

    @field_validator("template")
    @classmethod
    def _one_slot(cls, template: str) -> str:
        if template.count(SLOT) != 1 or template.split().count(SLOT) != 1:
            raise ValueError(f"'{template}' must hold {SLOT} once, as a word of its own")
        return template


class ClipReid(TowerStrategy):
    """CLIP-ReID (Li 2023, arXiv 2211.13977) for hands: learned prompts on the frozen CLIP, then its image tower.

    The first stage learns the tokens of "A photo of a [X]1..[X]4 hand." of every identity by the symmetric contrastive
    loss, both towers frozen. The second trains the image tower under the identity loss and the triplet loss on trunk
    features and projected embedding alike, each with a batch norm and a head of its own, and under the cross-entropy
    to the texts of all identities. Both vectors before their norms, side by side, are the embedding.

    An identity is an identity's aspect, not an identity: the gallery of all aspects calls the same identity's other
    hand, and its other side, another identity, which one text for all of them would draw together.

    What differs from the paper: "hand" for "person"; vectors are compared by cosine at CLIP's own temperature, not by
    plain products; the triplet loss has two vectors, not also the one before the last block; decay is decoupled
    (AdamW); no mirroring, which would make right hands left; no side information about cameras.
    """

    name: Literal["clip_reid"] = "clip_reid"
    """Which strategy this is."""
    tasks: ClassVar[tuple[type[Task], ...]] = (Identities,)
    because: ClassVar[str] = "learns a text for every identity"
    reads_text: ClassVar[bool] = True
    prompts: PromptSettings = PromptSettings()
    """The first stage."""
    optim: Optim = Optim(lr=5e-6, weight_decay=1e-4, batch_size=64, schedule=Schedule.STEPS, warmup=10 / 60)
    """Optimiser and schedule of the second stage (the paper's for transformers; 3.5e-4 for RN50)."""
    neck: NeckSettings = NeckSettings(kind=NeckKind.BN, source=NeckInput.BOTH, embedding=EmbeddingAt.BEFORE)
    """What stands between image tower and identity heads. If it reads both vectors and does not mix them (``bn``,
    ``none``), each has a head and losses of its own."""
    losses: Losses = Losses(
        identity=IdentitySettings(weight=0.25, smoothing=0.1),
        triplet=TripletSettings(weight=1.0, margin=0.3),
        image_text=ImageTextSettings(weight=1.0, smoothing=0.1),
    )
    """What is minimised in the second stage: ``image_text`` between images and the texts of all identities, the
    others on each vector that has a head (for RN50 the paper's identity weight is 1). The temperature of
    ``image_text`` is that of the first stage too."""
    sampler: SamplerSettings = SamplerSettings(kind=SamplerKind.PK, images_each=4)
    """How images come together in a batch of the second stage."""
    augment: AugmentSettings = AugmentSettings(shift=0.05, erase=0.5)
    """Random changes of the images of the second stage."""

    @model_validator(mode="after")
    def _each_part_is_read(self) -> Self:
        if self.losses.on is not ReadFrom.EMBEDDING:
            raise ValueError(
                "losses.on: choose the vectors by neck.source; here losses read each part of the embedding"
            )
        return self

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """Backbone without its text tower, prompts that read by it, neck and heads."""
        num_classes = data.labelled(self.labels).num_classes
        tower = backbone.release_text()
        prompts = Prompts(
            tower, template=self.prompts.template, num_tokens=self.prompts.num_tokens, num_classes=num_classes
        )
        neck = self.neck.build(backbone)
        margin = self.losses.margin_head
        model = PromptedModel(backbone, neck, prompts, num_classes=num_classes, margin_head=margin)
        return self.with_metric(model, data)

    @property
    def of_images(self) -> Full:
        """Image tower, neck and metric alone; prompts and heads serve training."""
        return Full(neck=self.neck, labels=self.labels)

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """The prompts, on cached features, and the image tower."""
        assert isinstance(model, PromptedModel)
        share, optim = self.prompts.share, self.prompts.optim
        temperature = self.losses.image_text.temperature * model.prompts.temperature
        prompts = Phase(
            "prompts",
            self._plain_images(data),
            (Train("prompts"),),
            (Term("image_text", image_text_supcon(temperature=temperature)),),
            optim,
            share=share,
            evaluate=False,
        )
        terms = self.terms(model, data)
        rate = self.tower_optim(model)
        image = Phase("image", self.data_spec(data), self.trained(model), terms, rate, share=1 - share)
        return prompts, image

    def terms(self, model: HandModel, data: TrainingData) -> tuple[Term, ...]:
        """The losses that are on, for each part of the embedding, and between images and the learned texts."""
        assert isinstance(model, PromptedModel)
        num_classes = data.labelled(self.labels).num_classes
        on_parts = tuple(
            Term(f"{term.name}_{part.name}", _OnPart(term.loss, index), term.weight)
            for index, part in enumerate(model.parts)
            for term in self.losses.terms(
                num_classes=num_classes,
                embedding=part.width,
                trunk=model.architecture.width,
                projected=model.architecture.dim,
            )
        )
        settings = self.losses.image_text
        if not settings.weight:
            return on_parts
        return (*on_parts, Term("image_text", settings.build(trained_at=model.prompts.temperature), settings.weight))

    def _plain_images(self, data: TrainingData) -> DataSpec:
        """All training images as they are."""
        labelled = data.labelled(self.labels)
        sampler = Shuffled(self.prompts.optim.batch_size)
        return DataSpec(labelled.rows, labelled.pool, sampler=sampler, augment=AugmentSettings())


class _OnPart(nn.Module):
    """``loss`` of one part of a PartedOutput; a module, for the loss may have buffers."""

    def __init__(self, loss: Loss, index: int) -> None:
        super().__init__()
        self.loss, self.index = loss, index

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """A scalar."""
        assert isinstance(output, PartedOutput)
        return self.loss(output.parts[self.index], batch)
