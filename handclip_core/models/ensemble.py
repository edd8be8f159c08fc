"""Several trained models as one: each keeps its towers and its images, and their vectors stand side by side."""

from collections.abc import Callable, Sequence, Set

import torch
from torch import Tensor, nn

from handclip_core.data.framing import Form
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.joined import FusedBy, Joined
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import Classifier, HandModel, no_metric
from handclip_core.models.readout import Readout
from handclip_core.types import Batch, Encoded, ModelInputs, Output, PerTower


class EnsembleModel(HandModel):
    """Trained ``members`` that answer together; nothing in it is trained, so there is no trunk, neck or head.

    It reads PerTower images in its ``forms``, or images [B, 3, S, S] if all members read the same ones.
    """

    def __init__(self, members: Sequence[HandModel], by: FusedBy, scores: ScoreFusion) -> None:
        nn.Module.__init__(self)
        self.members = nn.ModuleList(members)
        self._forms = tuple(dict.fromkeys(form for member in members for form in member.forms))
        self.joined = joined_of(members, by, scores)
        self.metric = no_metric(self.joined.widths)

    def forward_trunk(self, inputs: ModelInputs, aspects: Tensor) -> Encoded:
        """Not one tower's view: raises NotImplementedError."""
        raise NotImplementedError("an ensemble is not trained")

    def forward_head(self, encoded: Encoded, batch: Batch) -> Output:
        """No head: raises NotImplementedError, as ``forward_trunk`` does."""
        raise NotImplementedError("an ensemble is not trained")

    @property
    def output_width(self) -> int:
        """No output that a loss reads: raises NotImplementedError."""
        raise NotImplementedError("an ensemble is not trained")

    def untouched_blocks(self, pretrained: Backbone, trained: Set[str]) -> int:
        """No one backbone: raises NotImplementedError."""
        raise NotImplementedError("an ensemble is not trained")

    def vectors(self, inputs: ModelInputs, aspects: Tensor) -> Tensor:
        """What all members make of images, as one vector."""
        return self.joined.join([member.embed(images, aspects) for member, images in self._with(inputs)])

    def static_vectors(self, pixels: Tensor, aspects: Tensor) -> Tensor:
        """``vectors`` by steps that do not depend on what images show."""
        each = [member.metric(member.static_vectors(images, aspects)) for member, images in self._with(pixels)]
        return self.joined.join(each)

    def classifier(self) -> Classifier:
        """Logs of the weighted mean of the members' probabilities [B, P], and the first member's projection [B, D]."""
        members, weights = [member.classifier() for member in self.parts], self.joined.scores.weights

        def classify(inputs: ModelInputs, aspects: Tensor) -> tuple[Tensor, Tensor]:
            given = zip(members, self._with(inputs), strict=True)
            outputs = [one(images, aspects) for one, (_, images) in given]
            each = [logits.double().softmax(dim=1) for logits, _ in outputs]
            mean = torch.stack([p * weight for p, weight in zip(each, weights, strict=True)]).sum(dim=0)
            return mean.clamp(min=torch.finfo(torch.float64).tiny).log(), outputs[0][1]

        return classify

    def read_texts(self, texts: Sequence[str]) -> Tensor | None:
        """As the first member reads them, whose projection ``classifier`` gives."""
        return self.parts[0].read_texts(texts)

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms that its members read, each once."""
        return self._forms

    @property
    def parts(self) -> tuple[HandModel, ...]:
        """The members."""
        return tuple(member for member in self.members if isinstance(member, HandModel))

    @property
    def tells_aspects(self) -> bool:
        """Whether an aspect makes a difference to any member."""
        return any(member.tells_aspects for member in self.parts)

    def predict_aspects(self, inputs: ModelInputs) -> Tensor | None:
        """What the first member sees that tells aspects."""
        found = (member.predict_aspects(images) for member, images in self._with(inputs) if member.tells_aspects)
        return next(found, None)

    @property
    def similarity(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Votes, or as ``pairwise_similarity``."""
        return self.joined.similarity

    @property
    def pairwise_similarity(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """The weighted sum of the members' scores; None if the cosine is in its order."""
        return self.joined.pairwise_similarity

    @property
    def architecture(self) -> Backbone:
        """The backbone of the first member."""
        return self.parts[0].architecture

    @property
    def readout(self) -> Readout | None:
        """Nothing: members read their own towers."""
        return None

    def _with(self, inputs: ModelInputs) -> list[tuple[HandModel, Tensor]]:
        """Each member with the images that it reads."""
        images = inputs.images if isinstance(inputs, PerTower) else (inputs,)
        assert len(images) == len(self._forms), "images in every form that a member reads"
        found = []
        for member in self.parts:
            (form,) = member.forms
            own = images[self._forms.index(form)]
            assert isinstance(own, Tensor), "an ensemble reads images, not activations"
            found.append((member, own))
        return found


def joined_of(members: Sequence[HandModel], by: FusedBy, scores: ScoreFusion) -> Joined:
    """How embeddings of ``members`` are joined and compared."""
    return Joined(
        by,
        scores,
        tuple(member.width for member in members),
        tuple(member.pairwise_similarity for member in members),
        tuple(member.similarity for member in members),
    )
