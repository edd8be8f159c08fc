"""Types that every module shares.

Shape letters: B batch, D embedding, F trunk features, P identities (classes), K images each, Q queries, G gallery,
N rows of the manifest, W embedding of a model, T texts, A aspects, R readout, C channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor


class Aspect(StrEnum):
    """Which side of which hand an image shows, in the words of the 11k Hands data set."""

    DORSAL_RIGHT = "dorsal right"
    DORSAL_LEFT = "dorsal left"
    PALMAR_RIGHT = "palmar right"
    PALMAR_LEFT = "palmar left"
    UNKNOWN = "unknown"


HAND_ASPECTS = (Aspect.DORSAL_RIGHT, Aspect.DORSAL_LEFT, Aspect.PALMAR_RIGHT, Aspect.PALMAR_LEFT)
"""The four aspects of 11k Hands in the published order."""


ASPECT_INDEX = {aspect: index for index, aspect in enumerate(Aspect)}
"""The number that stands for an aspect in tensors."""


class Templates(StrEnum):
    """Sentences around the name of a class, for a zero-shot classifier."""

    NAME = "name"
    """The bare name."""
    PHOTO = "photo"
    """One sentence (Radford 2021, arXiv 2103.00020, section 3.1.4)."""
    MANY = "many"
    """Several sentences, whose embeddings are averaged: those of the task's settings, else ours."""


@dataclass(frozen=True)
class Encoded:
    """What an image tower makes of images: trunk ``features`` [B, F] and CLIP's ``projected`` embedding [B, D].

    ``readout`` [B, R] is what is read inside of the tower, in models that do so.
    """

    features: Tensor
    projected: Tensor
    readout: Tensor | None = None

    def at(self, index: Tensor | slice) -> "Encoded":
        """Some of the images."""
        return self.map(lambda tensor: tensor[index])

    def map(self, function: Callable[[Tensor], Tensor]) -> "Encoded":
        """``function`` of each tensor."""
        return Encoded(*(None if tensor is None else function(tensor) for tensor in self.tensors()))  # type: ignore[arg-type]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """All that it holds."""
        return self.features, self.projected, self.readout

    @staticmethod
    def joined(parts: Sequence["Encoded"]) -> "Encoded":
        """The images of all ``parts``, one after the other."""
        readouts = [part.readout for part in parts if part.readout is not None]
        return Encoded(
            torch.cat([part.features for part in parts]),
            torch.cat([part.projected for part in parts]),
            torch.cat(readouts) if readouts else None,
        )


@dataclass(frozen=True)
class FeatureMap:
    """The output of a block of an image tower: ``values`` [B, C, H, W] and the class token [B, C], if there is one."""

    values: Tensor
    token: Tensor | None = None


@dataclass(frozen=True)
class Activations:
    """What the first ``depth`` blocks of an image tower made of images: ``hidden`` [B, ...]."""

    hidden: Tensor
    depth: int


@dataclass(frozen=True)
class PerTower:
    """The same images as several towers read them: ``images`` [B, 3, S, S], of one size and framing each."""

    images: tuple[Tensor, ...]

    def at(self, index: Tensor | slice) -> "PerTower":
        """Some of the images."""
        return PerTower(tuple(images[index] for images in self.images))

    def mirrored(self) -> "PerTower":
        """The mirror images."""
        return PerTower(tuple(images.flip(-1) for images in self.images))


ModelInputs = Tensor | Activations | Encoded | PerTower
"""Images [B, 3, H, W], or what the frozen blocks of the image tower, some or all, once made of them; of an ensemble the
images as its towers read them."""


@dataclass(frozen=True)
class Batch:
    """One training batch: ``labels`` [B] are class indices, ``rows`` [B] manifest rows, ``aspects`` [B] aspect indices.

    All three are int64; an aspect's index is that of ASPECT_INDEX. ``inputs`` are images as floats in [0, 1], or
    activations of them.
    """

    inputs: ModelInputs
    labels: Tensor
    rows: Tensor
    aspects: Tensor

    def item(self, index: int) -> "Batch":
        """The batch of one that holds image ``index`` alone."""
        return self.part(slice(index, index + 1))

    def part(self, part: slice) -> "Batch":
        """Some of the batch's images."""
        return Batch(_part(self.inputs, part), self.labels[part], self.rows[part], self.aspects[part])


@dataclass(frozen=True)
class Texts:
    """Text embeddings [T, D], not normalised, and the class [T] int64 that each of them describes."""

    embedding: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Matching:
    """A batch whose images and captions are told apart from each other: caption i was shown for image i.

    ``texts`` [B, D] are embeddings of the captions, not normalised; ``positive`` [B, B] says which captions describe
    which images, the diagonal and others; ``scale`` is what cosines are multiplied by, and ``bias`` what the sigmoid
    loss adds to them, scalars.
    """

    texts: Tensor
    positive: Tensor
    scale: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Output:
    """What a model makes of a batch: the image tower's view, and what stands on it.

    ``encoded`` holds trunk features [B, F] and CLIP's embedding [B, D]; ``embedding`` [B, W] is what retrieval
    compares, before normalisation; ``logits`` [B, P] are those of the identity head, cosines before a margin loss.
    ``texts``, ``aspect_logits`` [B, A] and ``matching`` are there in models that have text prompts, an aspect
    classifier, or a text tower that reads captions.
    """

    encoded: Encoded
    embedding: Tensor
    logits: Tensor
    texts: Texts | None = None
    aspect_logits: Tensor | None = None
    matching: Matching | None = None


def _part(inputs: ModelInputs, part: slice) -> ModelInputs:
    if isinstance(inputs, Activations):
        return Activations(inputs.hidden[part], inputs.depth)
    return inputs[part] if isinstance(inputs, Tensor) else inputs.at(part)
