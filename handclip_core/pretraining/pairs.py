"""Images with captions for pretraining, and a score on identities that are not among them."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from handclip_core.drawn import draw_arrays
from handclip_core.evaluation.retrieval import embedding_scores
from handclip_core.models.backbone import Backbone

POPULATION = "pretrain"
"""Identities of this population are in no data set that is drawn by default."""

ASPECT_NAMES = ("right dorsal hand", "left dorsal hand", "right palm", "left palm")
"""Words for the aspects, in the order of the drawn arrays."""

SHOWN = 2
"""Images of a hand in a batch."""
_ENCODED_AT_A_TIME = 64


@dataclass(frozen=True)
class Drawings:
    """What is drawn: ``people`` identities of POPULATION, ``images_per_aspect`` images of each of their aspects."""

    people: int
    images_per_aspect: int
    seed: int
    height_px: int
    workers: int | None

    def draw(self, *, size_px: int) -> tuple[Tensor, list[str]]:
        """Images uint8 [P, 4, K, 3, size_px, size_px], squeezed to squares, and their captions in the same order."""
        drawn = draw_arrays(
            population=POPULATION, seed=self.seed, people=self.people, images_per_aspect=self.images_per_aspect,
            height_px=self.height_px, workers=self.workers, captions=True,
        )  # fmt: skip
        images = torch.empty(len(drawn.pixels), 3, size_px, size_px, dtype=torch.uint8)
        for place, pixels in enumerate(drawn.pixels):
            square = Image.fromarray(pixels).resize((size_px, size_px), Image.Resampling.BICUBIC)
            images[place] = torch.from_numpy(np.array(square)).permute(2, 0, 1)
        return images.unflatten(0, (self.people, len(ASPECT_NAMES), self.images_per_aspect)), list(drawn.captions)


@dataclass(frozen=True)
class Batch:
    """B images [B, 3, S, S] with texts [B, context], the hand and the aspect of each [B]; a hand has two images."""

    images: Tensor
    texts: Tensor
    hands: Tensor
    aspects: Tensor


@dataclass(frozen=True)
class Pairs:
    """Images of P identities, 4 aspects, K each: ``images`` uint8 [P, 4, K, 3, S, S] and texts as token ids.

    ``captions`` [P, 4, K, context] say what is seen, ``named`` the same and whose hand it is, ``names`` [P, 4, context]
    only whose hand it is and which, ``prompts`` [4, context] only which.
    """

    images: Tensor
    captions: Tensor
    named: Tensor
    names: Tensor
    prompts: Tensor

    def batch(self, size: int, *, name_share: float, generator: torch.Generator) -> Batch:
        """Two images each of ``size`` / 2 random hands, as many of each aspect; ``size`` is a multiple of 8.

        Half of the batches show one hand each of ``size`` / 2 identities, half all four aspects of ``size`` / 8. No
        batch shows a single aspect: batch norm would subtract what an aspect looks like. ``name_share`` of the batches
        have names alone, which are short and quick to read; the others captions, half of them with a name.
        """
        people, aspects, shots = self.images.shape[:3]
        order = torch.randperm(people, generator=generator)
        apart, named = torch.rand(2, generator=generator).tolist()
        hands = size // SHOWN
        who = order[:hands] if apart < 0.5 else order[: hands // aspects].repeat_interleave(aspects)
        aspect = torch.arange(aspects).repeat(hands // aspects).repeat_interleave(SHOWN)
        shot = torch.rand(hands, shots, generator=generator).argsort(dim=1)[:, :SHOWN].flatten()
        who = who.repeat_interleave(SHOWN)
        if named < name_share:
            texts = self.names[who, aspect]
        else:
            plain = torch.rand(size, 1, generator=generator) < 0.5
            texts = torch.where(plain, self.captions[who, aspect, shot], self.named[who, aspect, shot])
        return Batch(self.images[who, aspect, shot], texts, torch.arange(hands).repeat_interleave(SHOWN), aspect)


def captioned_pairs(drawings: Drawings, backbone: Backbone) -> Pairs:
    """Draw, and write every caption also with a name: a word of the vocabulary for each identity, of no meaning."""
    images, captions = drawings.draw(size_px=drawings.height_px)
    words = np.random.default_rng(drawings.seed).permutation(backbone.words())[: drawings.people]
    each = images[0].flatten(0, 1).shape[0]
    named = [f"{caption}, {words[place // each]}" for place, caption in enumerate(captions)]
    names = [f"a photo of {word}'s {aspect}" for word in words for aspect in ASPECT_NAMES]
    shape = images.shape[:3]
    return Pairs(
        images=images,
        captions=backbone.tokenize(captions).unflatten(0, shape),
        named=backbone.tokenize(named).unflatten(0, shape),
        names=backbone.tokenize(names).unflatten(0, shape[:2]),
        prompts=backbone.tokenize([f"a photo of a {aspect}" for aspect in ASPECT_NAMES]),
    )


@torch.no_grad()
def zero_shot_map(backbone: Backbone, images: Tensor) -> float:
    """Mean average precision on uint8 ``images`` [P, 4, K, 3, S, S] of identities, in evaluation mode, mean over
    aspects.

    The gallery holds the first image of each identity, the others are queries; K must be at least 2.
    """
    backbone.eval()
    flat = images.flatten(0, 2).split(_ENCODED_AT_A_TIME)
    embedded = torch.cat([backbone(part.float() / 255).projected.float() for part in flat]).unflatten(
        0, images.shape[:3]
    )
    people, aspects, shots = images.shape[:3]
    gallery_ids = np.arange(people)
    query_ids = gallery_ids.repeat(shots - 1)
    scores = [
        embedding_scores(embedded[:, k, 1:].flatten(0, 1), embedded[:, k, 0], query_ids, gallery_ids).map
        for k in range(aspects)
    ]
    return float(np.mean(scores))
