"""A neck and a head for every aspect."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel, identity_head, no_metric
from handclip_core.models.neck import Neck, NeckOutput, NeckSettings
from handclip_core.models.readout import Readout
from handclip_core.models.views.router import Router, view_name
from handclip_core.types import ASPECT_INDEX, Aspect, Batch, Encoded, ModelInputs, Output, PerTower


@dataclass(frozen=True)
class ViewHeadSettings:
    """What the branches are made of: one for each of ``aspects``."""

    aspects: tuple[Aspect, ...]
    neck: NeckSettings
    num_classes: int
    margin_head: bool = False


class ViewHeads(nn.Module):
    """A neck and an identity head an aspect; every image goes through those of its own."""

    def __init__(self, settings: ViewHeadSettings, backbone: Backbone) -> None:
        super().__init__()
        self.aspects = settings.aspects
        classes = settings.num_classes
        necks = {view_name(aspect): settings.neck.build(backbone) for aspect in settings.aspects}
        first = next(iter(necks.values()))
        self.width, self.vectors, self.readout = first.width, first.vectors, first.readout
        self.necks = nn.ModuleDict(necks)
        self.heads = nn.ModuleDict(
            {name: identity_head(neck.head_width, classes, margin=settings.margin_head) for name, neck in necks.items()}
        )

    def forward(self, encoded: Encoded, routed: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, W] and logits [B, P] of images that go by the aspects ``routed`` [B]."""
        outputs = {aspect: self._head(aspect) for aspect in self.aspects}
        embeddings = by_aspect(outputs, encoded, routed)
        return embeddings[0], embeddings[1]

    def embed(self, aspect: Aspect, encoded: Encoded) -> Tensor:
        """Embeddings [B, W] of images as the neck of ``aspect`` sees them, whatever they show."""
        return self._neck(aspect, encoded).embedding

    def _head(self, aspect: Aspect) -> Callable[[Encoded], tuple[Tensor, Tensor]]:
        def forward(encoded: Encoded) -> tuple[Tensor, Tensor]:
            found = self._neck(aspect, encoded)
            return found.embedding, self.heads[view_name(aspect)](found.head_input)

        return forward

    def _neck(self, aspect: Aspect, encoded: Encoded) -> NeckOutput:
        neck = self.necks[view_name(aspect)]
        assert isinstance(neck, Neck)
        if not (self.training and len(encoded.features) == 1):
            found: NeckOutput = neck(encoded)
            return found
        # A single image has no batch statistics: it goes by the running ones.
        neck.eval()
        found = neck(encoded)
        neck.train()
        return found


class PerViewHeads(HandModel):
    """One image tower for all aspects, and a neck and an identity head for each; the router tells what is unknown."""

    def __init__(self, backbone: Backbone, settings: ViewHeadSettings) -> None:
        nn.Module.__init__(self)
        self.backbone = backbone
        self.branches = ViewHeads(settings, backbone)
        self.router = Router(backbone.width, settings.aspects)
        self.metric = no_metric(tuple(self.branches.vectors.values()))

    @property
    def vector_names(self) -> tuple[str, ...]:
        """What each vector of a branch is."""
        return tuple(self.branches.vectors)

    def forward_head(self, encoded: Encoded, batch: Batch) -> Output:
        """All that stands on the image tower, for a whole batch."""
        logits = self.router(encoded.features)
        embedding, identities = self.branches(encoded, self.router.route(batch.aspects, logits))
        return Output(encoded, embedding, identities, aspect_logits=logits)

    def vectors(self, inputs: ModelInputs, aspects: Tensor) -> Tensor:
        """What the metric maps: the embedding of each image's branch."""
        encoded = self.forward_trunk(inputs, aspects)
        routed = self.router.route(aspects, self.router(encoded.features))
        embedding: Tensor = self.branches(encoded, routed)[0]
        return embedding

    def static_vectors(self, pixels: Tensor, aspects: Tensor) -> Tensor:
        """The embeddings of all branches, of which each image's is taken."""
        encoded = self.forward_trunk(pixels, aspects)
        routed = self.router.route(aspects, self.router(encoded.features))
        views = [self.branches.embed(aspect, encoded) for aspect in self.branches.aspects]
        return chosen_view(views, self.branches.aspects, routed)

    @property
    def tells_aspects(self) -> bool:
        """Every aspect has a part of its own."""
        return True

    def predict_aspects(self, inputs: ModelInputs) -> Tensor:
        """The aspect [B] that the router sees in each image, by ASPECT_INDEX."""
        unknown = torch.full((_length(inputs),), ASPECT_INDEX[Aspect.UNKNOWN], device=self.router.allowed.device)
        predicted: Tensor = self.router(self.forward_trunk(inputs, unknown).features).argmax(dim=1)
        return predicted

    @property
    def readout(self) -> Readout | None:
        """What the branches read inside of the tower."""
        return self.branches.readout

    @property
    def output_width(self) -> int:
        """The width of an Output's embedding, which losses read."""
        return self.branches.width


def by_aspect(
    functions: Mapping[Aspect, Callable[[Encoded], Sequence[Tensor]]], encoded: Encoded, routed: Tensor
) -> list[Tensor]:
    """Apply to each image the function of its aspect ``routed`` [B]; the results [B, ...] in the images' order."""
    places, found = [], []
    for aspect, function in functions.items():
        at = (routed == ASPECT_INDEX[aspect]).nonzero(as_tuple=True)[0]
        if len(at):
            places.append(at)
            found.append(function(encoded.at(at)))
    order = torch.cat(places).argsort()
    return [torch.cat(parts)[order] for parts in zip(*found, strict=True)]


def chosen_view(views: Sequence[Tensor], of: Sequence[Aspect], routed: Tensor) -> Tensor:
    """Of the ``views`` [B, W] by all aspects ``of``, that of each image's aspect ``routed`` [B]."""
    indices = torch.tensor([ASPECT_INDEX[aspect] for aspect in of], device=routed.device)
    mine = routed[:, None] == indices
    return torch.where(mine[:, :, None], torch.stack(list(views), dim=1), 0.0).sum(dim=1)


def _length(inputs: ModelInputs) -> int:
    if isinstance(inputs, Tensor):
        return len(inputs)
    assert not isinstance(inputs, PerTower), "the images of an ensemble are handed to its members one by one"
    return len(inputs.features) if isinstance(inputs, Encoded) else len(inputs.hidden)
