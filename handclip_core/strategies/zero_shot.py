"""CLIP as it is."""

from typing import ClassVar, Literal

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Phase
from handclip_core.errors import InputError
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.neck import NeckInput, NeckSettings
from handclip_core.strategies.base import Strategy


class ZeroShot(Strategy):
    """No training: the baseline row of every table (Radford 2021, arXiv 2103.00020)."""

    name: Literal["zero_shot"] = "zero_shot"
    """Which strategy this is."""
    trains: ClassVar[bool] = False
    source: NeckInput = NeckInput.PROJECTED
    """Which of CLIP's vectors is the embedding."""

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """The backbone with no neck and no head, but for the classifier that names of classes give.

        Raises InputError where images are compared with texts and ``source`` is nothing that can be.
        """
        neck = NeckSettings(source=self.source).build(backbone)
        model = self.with_names(HandModel(backbone, neck, num_classes=0), data)
        if data.meets_texts and not neck.begins_as_projected:
            raise InputError(f"strategy.source: texts are compared with projected, not with {self.source}")
        return model

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """None."""
        del model, data
        return ()
