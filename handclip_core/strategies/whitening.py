"""A closed form on top of frozen CLIP."""

from typing import ClassVar, Literal

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Phase
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.metric import MetricKind, MetricSettings
from handclip_core.models.neck import NeckInput, NeckSettings
from handclip_core.models.readout import Pooling, ReadoutSettings
from handclip_core.strategies.base import LabelledStrategy
from handclip_core.tasks.base import Task
from handclip_core.tasks.identities.task import Identities


class Whitening(LabelledStrategy):
    """No gradient: vectors of the frozen image tower or read inside of it, and a covariance of them.

    LDA by default (Fukunaga 1990), weighted; also within-class covariance normalisation (Hatch 2006), whitening for
    retrieval (Radenovic 2019, arXiv 1711.02512) and PLDA (Ioffe 2006). Takes no budget: with
    small towers seconds, from cached activations, with large ones and thousands of images some minutes.
    """

    name: Literal["whitening"] = "whitening"
    """Which strategy this is."""
    tasks: ClassVar[tuple[type[Task], ...]] = (Identities,)
    because: ClassVar[str] = "fits a metric for searches among images"
    trains: ClassVar[bool] = False
    neck: NeckSettings = NeckSettings(
        source=NeckInput.ALL,
        readout=ReadoutSettings(depths=(0.15, 0.3, 0.6, 0.8), pool=Pooling.PYRAMID, grid=2),
        metric=MetricSettings(kind=MetricKind.WEIGHTED_LDA, dim=64, shrinkage="validation", vectors="validation"),
    )
    """What is read, and the metric on top of it. By default what the tower gives out stands beside means of its blocks
    and of their parts, and those count that together find most among training identities."""

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """The backbone with a neck and no head."""
        return self.with_metric(HandModel(backbone, self.neck.build(backbone), num_classes=0), data)

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """None."""
        del model, data
        return ()
