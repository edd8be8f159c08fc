"""An image tower for every aspect, and how they work together."""

import copy
from collections.abc import Callable, Set
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.data.inputs import Inputs
from handclip_core.evaluation.fusion import Calibrator, Search, ValidationSet, fit_score_fusion, vote
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel, encode_with, no_metric, untouched_blocks
from handclip_core.models.readout import Readout
from handclip_core.models.views.heads import ViewHeads, ViewHeadSettings, chosen_view
from handclip_core.models.views.router import Router, directions, view_name
from handclip_core.types import ASPECT_INDEX, Activations, Aspect, Batch, Encoded, ModelInputs, Output


class ExpertFusion(StrEnum):
    """How the experts' views of an image become one embedding, or one score."""

    OWN = "own"
    MEAN = "mean"
    CONCAT = "concat"
    SCORES = "scores"
    VOTES = "votes"


class PerViewExperts(HandModel):
    """An expert an aspect: image tower, neck and identity head, all from the same start.

    A training image goes through the expert of its aspect alone. An embedding is that expert's (``own``), or is made
    of all experts' unit embeddings: their ``mean``, side by side (``concat``), or side by side with weights by the
    image's aspect (``scores``), whose cosine is the weighted sum of the experts' cosines. The router, fitted to
    training images as the pretrained tower sees them, tells an unknown aspect.
    """

    shares: Tensor

    def __init__(self, backbone: Backbone, settings: ViewHeadSettings, *, fusion: ExpertFusion) -> None:
        nn.Module.__init__(self)
        self.aspects, self.fusion = settings.aspects, fusion
        self.experts = nn.ModuleDict({view_name(aspect): copy.deepcopy(backbone) for aspect in settings.aspects})
        self.branches = ViewHeads(settings, backbone)
        self.start = backbone
        self.router = Router(backbone.dim, settings.aspects)
        num = len(settings.aspects)
        self.register_buffer("shares", torch.full((len(ASPECT_INDEX), num), 1 / num))
        self.side_by_side = fusion not in (ExpertFusion.OWN, ExpertFusion.MEAN)
        self.metric = no_metric(tuple(self.branches.vectors.values()) * (num if self.side_by_side else 1))

    @property
    def vector_names(self) -> tuple[str, ...]:
        """What each vector of an expert is; of all experts if they stand side by side."""
        names = tuple(self.branches.vectors)
        return tuple(f"{one}, {name}" for one in self.aspects for name in names) if self.side_by_side else names

    def forward_trunk(self, inputs: ModelInputs, aspects: Tensor) -> Encoded:
        """Each image as the expert of its aspect sees it."""
        routed = self._routed(inputs, aspects)
        size, device = len(aspects), aspects.device
        parts, places = [], []
        for aspect in self.aspects:
            at = (routed == ASPECT_INDEX[aspect]).nonzero(as_tuple=True)[0]
            if len(at):
                places.append(at)
                parts.append(encode_with(self._expert(aspect), _some(inputs, at), self.readout))
        order = torch.cat(places).argsort() if places else torch.arange(size, device=device)
        return Encoded.joined(parts).at(order)

    def forward_head(self, encoded: Encoded, batch: Batch) -> Output:
        """All that stands on the experts' towers; the images' aspects are known."""
        embedding, logits = self.branches(encoded, batch.aspects)
        return Output(encoded, embedding, logits)

    def vectors(self, inputs: ModelInputs, aspects: Tensor) -> Tensor:
        """What the metric maps: the embedding of one expert, or of all."""
        if self.fusion is ExpertFusion.OWN:
            routed = self._routed(inputs, aspects)
            embedding: Tensor = self.branches(self.forward_trunk(inputs, routed), routed)[0]
            return embedding
        views = torch.stack([self._view(aspect, inputs) for aspect in self.aspects], dim=1)
        if self.fusion is ExpertFusion.MEAN:
            return views.mean(dim=1)
        if self.fusion is ExpertFusion.SCORES:
            views = views * self.shares[self._routed(inputs, aspects)].sqrt().unsqueeze(2)
        return views.flatten(start_dim=1)

    def static_vectors(self, pixels: Tensor, aspects: Tensor) -> Tensor:
        """What all experts make of the images; of it each image's own, or all by the weights of its aspect."""
        routed = torch.where(self.router.allowed[aspects], aspects, self.predict_aspects(pixels))
        if self.fusion is ExpertFusion.OWN:
            own = [self.branches.embed(aspect, self._encoded(aspect, pixels)) for aspect in self.aspects]
            return chosen_view(own, self.aspects, routed)
        views = torch.stack([self._view(aspect, pixels) for aspect in self.aspects], dim=1)
        if self.fusion is ExpertFusion.MEAN:
            return views.mean(dim=1)
        if self.fusion is ExpertFusion.SCORES:
            views = views * self.shares[routed].sqrt().unsqueeze(2)
        return views.flatten(start_dim=1)

    def calibrate(self, calibrator: Calibrator, inputs: Inputs) -> None:
        """For every aspect, weigh its own expert against the others for the highest mAP of their summed scores.

        Does nothing unless scores are summed. They are standardised by those of impostors, see ``ScoreFusion``.
        """
        num = len(self.aspects)
        if self.fusion is not ExpertFusion.SCORES or num < 2:
            return
        self.shares.fill_(1 / num)
        fused = calibrator.embedded(self, inputs)
        views = fused.view(len(fused), num, -1).numpy() * np.sqrt(num)
        for own, aspect in enumerate(self.aspects):
            sets = [_validation(views, search, own) for search in calibrator.searches(aspect)]
            if not sets:
                continue
            fitted = fit_score_fusion(sets)
            mine, rest = (weight / spread for weight, spread in zip(fitted.weights, fitted.deviations, strict=True))
            shares = torch.full((num,), rest / (num - 1))
            shares[own] = mine
            self.shares[ASPECT_INDEX[aspect]] = shares / shares.sum()

    @property
    def tells_aspects(self) -> bool:
        """Every aspect has a part of its own."""
        return True

    def predict_aspects(self, inputs: ModelInputs) -> Tensor:
        """The aspect [B] that the router sees in each image, by ASPECT_INDEX."""
        vectors = directions(encode_with(self.start, inputs).projected.detach().float())
        predicted: Tensor = self.router(vectors).argmax(dim=1)
        return predicted

    @property
    def architecture(self) -> Backbone:
        """A backbone of the experts' architecture, for its blocks and the widths F and D of ``forward_trunk``."""
        return self.start

    @property
    def readout(self) -> Readout | None:
        """What the experts read inside of their towers."""
        return self.branches.readout

    @property
    def output_width(self) -> int:
        """The width of an Output's embedding: that of one expert."""
        return self.branches.width

    @property
    def similarity(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Votes of the experts on the order of the gallery; None if embeddings are compared by cosine."""
        return self._votes if self.fusion is ExpertFusion.VOTES else super().similarity

    def untouched_blocks(self, pretrained: Backbone, trained: Set[str]) -> int:
        """How many leading blocks no expert trains."""
        names = map(view_name, self.aspects)
        return min(
            untouched_blocks(self._tower(name), pretrained, trained, prefix=f"experts.{name}.") for name in names
        )

    def _votes(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Votes [Q, G] of the experts, whose views stand side by side in the embeddings [Q, W] and [G, W].

        Views are compared by cosine whatever their lengths, which differ if a mirror image was added.
        """
        sides = (F.normalize(side.unflatten(1, (len(self.aspects), -1)), dim=2) for side in (queries, gallery))
        cosines = torch.einsum("qmw,gmw->mqg", *sides)
        return torch.from_numpy(vote([one.cpu().numpy() for one in cosines]))

    def _routed(self, inputs: ModelInputs, aspects: Tensor) -> Tensor:
        if bool(self.router.allowed[aspects].all()):
            return aspects
        return torch.where(self.router.allowed[aspects], aspects, self.predict_aspects(inputs))

    def _view(self, aspect: Aspect, inputs: ModelInputs) -> Tensor:
        return F.normalize(self.branches.embed(aspect, self._encoded(aspect, inputs)).float(), dim=1)

    def _encoded(self, aspect: Aspect, inputs: ModelInputs) -> Encoded:
        return encode_with(self._expert(aspect), inputs, self.readout)

    def _expert(self, aspect: Aspect) -> Backbone:
        return self._tower(view_name(aspect))

    def _tower(self, name: str) -> Backbone:
        tower = self.experts[name]
        assert isinstance(tower, Backbone)
        return tower


def _validation(views: NDArray[np.float32], search: Search, own: int) -> ValidationSet:
    """Cosines of the expert ``own`` and the mean ones of all others, from ``views`` [n, M, W] of M experts."""
    cosines = np.einsum("qmw,gmw->mqg", views[search.query], views[search.gallery])
    others = (cosines.sum(axis=0) - cosines[own]) / (len(cosines) - 1)
    return ValidationSet((cosines[own], others), search.query_ids, search.gallery_ids)


def _some(inputs: ModelInputs, at: Tensor) -> ModelInputs:
    if isinstance(inputs, Activations):
        return Activations(inputs.hidden[at], inputs.depth)
    return inputs[at] if isinstance(inputs, Tensor) else inputs.at(at)
