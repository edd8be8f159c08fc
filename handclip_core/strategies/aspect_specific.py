"""An expert for every aspect."""

from typing import Literal

from handclip_core.data.sampling import SamplerKind, SamplerSettings
from handclip_core.data.training import LabelBy, TrainingData
from handclip_core.engine.phase import Phase, Train
from handclip_core.errors import InputError
from handclip_core.models.backbone import Backbone
from handclip_core.models.branches import BranchSettings
from handclip_core.models.experts import ExpertFusion, ExpertsModel
from handclip_core.models.hand_model import HandModel
from handclip_core.models.neck import NeckKind
from handclip_core.models.router import branch_aspects, branch_name
from handclip_core.strategies.base import trained_blocks
from handclip_core.strategies.tower import TowerStrategy


class AspectSpecific(TowerStrategy):
    """A model for each aspect, trained side by side from the same start; they are fused, or each answers for its own.

    Every batch shows all aspects, and each picture trains the expert of its aspect alone. Needs the memory of a tower
    an aspect and of the pretrained one, and a pass through each of them where experts are fused.
    """

    name: Literal["aspect_specific"] = "aspect_specific"
    """Which strategy this is."""
    labels: LabelBy = LabelBy.PERSON
    """What counts as one class; a person by default: each expert's head tells people apart by its aspect alone."""
    sampler: SamplerSettings = SamplerSettings(kind=SamplerKind.BALANCED)
    """How pictures come together in a batch."""
    fusion: ExpertFusion = ExpertFusion.OWN
    """``own``, the expert of the picture's aspect; ``mean`` or ``concat`` of all experts' unit embeddings; ``scores``,
    the sum of their cosines with weights chosen on validation people; ``votes`` on the order of the gallery."""

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """An expert an aspect, and a router that is fitted to what the pretrained tower makes of training pictures."""
        aspects = branch_aspects(data.aspects)
        if not aspects:
            raise InputError(f"strategy.name: {self.name} needs pictures whose aspect is known")
        classes = data.labelled(self.labels).num_classes
        settings = BranchSettings(aspects, self.neck, classes, margin_head=self.losses.margin_head)
        model = ExpertsModel(backbone, settings, fusion=self.fusion)
        assert data.zero_shot is not None, "a workbench's training data know their zero-shot embeddings"
        labelled = data.labelled(self.labels, aspects=aspects)
        model.router.fit(data.zero_shot(labelled.rows), labelled.pool.aspects)
        return model

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase over all training pictures of known aspect."""
        aspects = branch_aspects(data.aspects)
        spec = self.data_spec(data, aspects=aspects)
        train = [part for aspect in aspects for part in self._expert(model, branch_name(aspect))]
        return (Phase("experts", spec, (*train, *self.head(model)), self.terms(model, data), self.optim),)

    def head(self, model: HandModel) -> tuple[Train, ...]:
        """Necks, where they have weights, and identity heads, where a loss reads them."""
        del model
        necks = ("branches.necks",) if self.neck.kind is not NeckKind.NONE else ()
        heads = ("branches.heads",) if self.losses.identity.weight else ()
        return tuple(Train(part, self.head_lr_scale) for part in (*necks, *heads))

    def _expert(self, model: HandModel, name: str) -> tuple[Train, ...]:
        blocks = trained_blocks(
            model.template,
            layer_decay=self.layer_decay,
            frozen=self.frozen_blocks,
            frozen_projection=self.frozen_projection,
        )
        return tuple(Train(f"experts.{name}.{part.prefix.removeprefix('backbone.')}", part.lr_scale) for part in blocks)
