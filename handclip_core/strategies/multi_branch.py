"""One image tower, a neck and a head for every aspect."""

from typing import Literal

from pydantic import Field

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Phase, Train
from handclip_core.losses.aspect import aspect_cross_entropy
from handclip_core.losses.term import Term
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.neck import NeckKind, NeckSettings
from handclip_core.models.views.heads import PerViewHeads
from handclip_core.strategies.per_view import PerViewStrategy


class MultiBranch(PerViewStrategy):
    """The image tower is shared; every aspect has a neck and an identity head of its own.

    An image goes by the branch of its aspect. If that is unknown, a linear classifier on the tower's features routes
    it, trained along; ``aspect_accuracy`` says how often it is right on validation identities. Branches start alike, so
    that embeddings of different aspects, which meet in the gallery of all aspects, start comparable.
    """

    name: Literal["multi_branch"] = "multi_branch"
    """Which strategy this is."""
    neck: NeckSettings = NeckSettings(kind=NeckKind.BN)
    """What each aspect has between image tower and identity head."""
    router_weight: float = Field(1.0, gt=0, le=1000)
    """Weight of the aspect classifier's cross-entropy, which shapes the tower too."""

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """Backbone, branches and router."""
        return self.with_metric(PerViewHeads(backbone, self.head_settings(data)), data)

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase over all training images of known aspect."""
        spec = self.data_spec(data, aspects=self.head_settings(data).aspects)
        router = Term("aspect", aspect_cross_entropy(), self.router_weight)
        terms = (*self.terms(model, data), router)
        return (Phase("branches", spec, self.trained(model), terms, self.tower_optim(model)),)

    def head(self, model: HandModel) -> tuple[Train, ...]:
        """Necks, identity heads, and the router."""
        return (*super().head(model), Train("router", self.head_lr_scale))
