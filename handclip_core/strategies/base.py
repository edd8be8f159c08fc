"""What every strategy is: settings that turn data and a backbone into a model and a tuple of phases."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic import Field

from handclip_core.config import Config
from handclip_core.data.augment import AugmentSettings
from handclip_core.data.samplers import PK, Sampler, Shuffled
from handclip_core.data.training import LabelBy, TrainingData
from handclip_core.engine.phase import DataSpec, Optim, Phase, Train
from handclip_core.losses.identity import cross_entropy
from handclip_core.losses.term import Term
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.neck import NeckKind, NeckSettings
from handclip_core.types import Aspect


class Strategy(Config, ABC):
    """A way to fine-tune CLIP. Subclasses are frozen settings; they carry no callables and serialise to JSON."""

    name: str
    """Which strategy this is."""

    @abstractmethod
    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """The model before training; random weights come from torch's global generator."""

    @abstractmethod
    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """What to train, on what, in which order."""


class IdentityStrategy(Strategy):
    """Settings of the strategies that learn to tell the training identities apart."""

    optim: Optim = Optim()
    """Optimiser and schedule of every phase."""
    neck: NeckSettings = NeckSettings()
    """What stands between image tower and identity head."""
    labels: LabelBy = LabelBy.PERSON_ASPECT
    """What counts as one class."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of the cross-entropy."""
    head_lr_scale: float = Field(1.0, gt=0, le=10_000)
    """Learning rate of neck and head, relative to the rest."""
    images_each: int | None = Field(None, ge=2, le=64)
    """Pictures of each person in a batch (P x K sampling); none to draw pictures whoever they show."""
    augment: AugmentSettings = AugmentSettings()
    """Random changes of the training pictures."""

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """Backbone, neck and a head for the training label space."""
        neck = self.neck.build(features=backbone.width, projected=backbone.dim)
        return HandModel(backbone, neck, num_classes=data.labelled(self.labels).num_classes)

    def data_spec(self, data: TrainingData, *, aspects: Sequence[Aspect] | None = None) -> DataSpec:
        """All training pictures (of ``aspects``) in the order of the sampler."""
        labelled = data.labelled(self.labels, aspects=aspects)
        sampler = _sampler(self.optim.batch_size, self.images_each)
        return DataSpec(labelled.rows, labelled.pool, sampler=sampler, augment=self.augment)

    def terms(self) -> tuple[Term, ...]:
        """Identity cross-entropy."""
        return (Term("identity", cross_entropy(smoothing=self.smoothing)),)


def _sampler(batch_size: int, images_each: int | None) -> Sampler:
    """Whole people fill a batch as far as they go, and there is at least one."""
    return Shuffled(batch_size) if images_each is None else PK(max(1, batch_size // images_each), images_each)


def trained_blocks(backbone: Backbone, *, layer_decay: float = 1.0, frozen: int = 0) -> tuple[Train, ...]:
    """Blocks of the backbone after the first ``frozen``: the last at scale 1, each earlier ``layer_decay`` lower."""
    blocks = backbone.blocks()
    last = len(blocks) - 1
    return tuple(
        Train(f"backbone.{prefix}", layer_decay ** (last - depth))
        for depth, prefixes in enumerate(blocks)
        if depth >= min(frozen, last)
        for prefix in prefixes
    )


def trained_head(model: HandModel, *, lr_scale: float) -> tuple[Train, ...]:
    """Identity head, and the neck where it has weights."""
    has_neck = model.neck.settings.kind is not NeckKind.NONE
    return (*((Train("neck", lr_scale),) if has_neck else ()), Train("head", lr_scale))
