"""An expert for every aspect."""

from typing import Literal, Self

from pydantic import model_validator

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Phase, Train
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.metric import MetricKind
from handclip_core.models.views.experts import ExpertFusion, PerViewExperts
from handclip_core.models.views.router import view_name
from handclip_core.strategies.base import trained_blocks
from handclip_core.strategies.per_view import PerViewStrategy


class AspectSpecific(PerViewStrategy):
    """A model for each aspect, trained side by side from the same start; they are fused, or each answers for its own.

    Every batch shows all aspects, and each image trains the expert of its aspect alone. Needs the memory of a tower
    an aspect and of the pretrained one, and a pass through each of them if experts are fused.
    """

    name: Literal["aspect_specific"] = "aspect_specific"
    """Which strategy this is."""
    fusion: ExpertFusion = ExpertFusion.OWN
    """``own``, the expert of the image's aspect; ``mean`` or ``concat`` of all experts' unit embeddings; ``scores``,
    the sum of their cosines with weights chosen on validation identities; ``votes`` on the order of the gallery."""

    @model_validator(mode="after")
    def _one_way_to_compare(self) -> Self:
        weighed = self.fusion in (ExpertFusion.SCORES, ExpertFusion.VOTES)
        if weighed and self.neck.metric.kind is not MetricKind.NONE:
            raise ValueError(
                f"fusion: {self.fusion} compares the experts' cosines, which neck.metric would replace; choose own, "
                "mean or concat, or neck.metric.kind: none"
            )
        return self

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """An expert an aspect, and a router that is fitted to what the pretrained tower makes of training images."""
        heads = self.head_settings(data)
        model = PerViewExperts(backbone, heads, fusion=self.fusion)
        assert data.zero_shot is not None, "training data of an experiment context have zero-shot embeddings"
        labelled = data.labelled(self.labels, aspects=heads.aspects)
        model.router.fit(data.zero_shot(labelled.rows), labelled.pool.aspects)
        return self.with_metric(model, data)

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase over all training images of known aspect."""
        aspects = self.head_settings(data).aspects
        train = [part for aspect in aspects for part in self._expert(model, view_name(aspect))]
        spec, terms = self.data_spec(data, aspects=aspects), self.terms(model, data)
        return (Phase("experts", spec, (*train, *self.head(model)), terms, self.tower_optim(model)),)

    def _expert(self, model: HandModel, name: str) -> tuple[Train, ...]:
        blocks = trained_blocks(
            model.architecture,
            layer_decay=self.layer_decay,
            frozen=self.frozen_blocks,
            frozen_projection=self.frozen_projection,
        )
        return tuple(Train(f"experts.{name}.{part.prefix.removeprefix('backbone.')}", part.lr_scale) for part in blocks)
