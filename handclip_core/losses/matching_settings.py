"""Which loss between images and captions a strategy minimises."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from handclip_core.config import Config
from handclip_core.losses.matching import clip_loss, infonce_loss, on_captions, sigmoid_loss, triplet_loss
from handclip_core.losses.mining import Mining
from handclip_core.losses.negatives import Negatives
from handclip_core.losses.own import OwnLoss
from handclip_core.losses.term import Loss


class MatchingKind(StrEnum):
    """The loss: CLIP's, InfoNCE, a triplet loss, SigLIP's, or one of the user's own."""

    CLIP = "clip"
    INFONCE = "infonce"
    TRIPLET = "triplet"
    SIGMOID = "sigmoid"
    OWN = "own"


class MatchingSettings(Config):
    """The loss between the images of a batch and their captions."""

    kind: MatchingKind = MatchingKind.CLIP
    """``clip``, the contrastive loss of CLIP; ``infonce``, with every caption of an image in turn; ``triplet``;
    ``sigmoid``, that of SigLIP; or that of ``own``."""
    temperature: float | None = Field(None, gt=0, le=10)
    """What cosines are divided by, at first; none for what the towers were trained with (CLIP: 0.01)."""
    learn_temperature: bool = True
    """Whether the temperature is trained, as in CLIP, or stays as it is."""
    lowest_temperature: float = Field(0.01, gt=0, le=10)
    """A temperature that is trained falls no lower (CLIP clamps its inverse to 100)."""
    bias: float = Field(-10.0, ge=-100, le=100)
    """What ``sigmoid`` adds to the scaled cosines, at first; it is trained."""
    margin: float = Field(0.2, gt=0, le=2)
    """How much farther than the positive the negative has to be in ``triplet``, in the distance of ``mining``."""
    mining: Mining = Mining.HARD
    """Which triplets of ``triplet`` count: ``hard``, the farthest positive and the nearest negative; ``semihard``."""
    negatives: Negatives = Negatives.ALL
    """Which of a batch stand against an anchor: ``all``; ``random`` ones; or those of the pairs most like its own, as
    the towers see it at the moment, ``by_text`` or ``by_image``."""
    num_negatives: int = Field(8, ge=1, le=4096)
    """How many those are, an anchor, unless ``all``."""
    own: OwnLoss | None = None
    """A loss of your own, in place of these where ``kind`` is ``own``. What it sees are ``Output.matching``, captions
    and what belongs together, beside ``Output.encoded``."""

    @model_validator(mode="after")
    def _own_comes_with_its_kind(self) -> Self:
        if (self.kind is MatchingKind.OWN) != (self.own is not None):
            raise ValueError("own: goes with kind: own; give both or neither")
        return self

    @property
    def weight(self) -> float:
        """Weight of the loss, beside a pull to the pretrained weights."""
        return self.own.weight if self.own else 1.0

    @property
    def has_temperature(self) -> bool:
        """Whether the loss scales cosines."""
        return self.kind is not MatchingKind.TRIPLET

    def build(self) -> Loss:
        """The loss on outputs of a model that reads captions; raises InputError if the user's own cannot be had."""
        if self.own:
            return self.own.build(key="strategy.losses.own")
        triplets = triplet_loss(margin=self.margin, mining=self.mining)
        losses = {
            MatchingKind.CLIP: clip_loss,
            MatchingKind.INFONCE: infonce_loss,
            MatchingKind.TRIPLET: triplets,
            MatchingKind.SIGMOID: sigmoid_loss,
        }
        return on_captions(losses[self.kind], negatives=self.negatives, num_negatives=self.num_negatives)
