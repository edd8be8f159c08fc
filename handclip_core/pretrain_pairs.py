"""Pictures with captions for pretraining, and a score on people who are not among them."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from handclip_core.data.drawn import draw_arrays
from handclip_core.evaluation.retrieval import embedding_scores
from handclip_core.models.backbone import Backbone

POPULATION = "pretrain"
"""People of this population are in no data set that is drawn by default."""

ASPECT_NAMES = ("right dorsal hand", "left dorsal hand", "right palm", "left palm")
"""Words for the aspects, in the order of the drawn arrays."""


@dataclass(frozen=True)
class Pairs:
    """Pictures of P people, A aspects, K each: ``pictures`` uint8 [P, A, K, 3, S, S] and texts as token ids.

    ``captions`` [P, A, K, context] say what is seen, ``named`` the same and whose hand it is, ``names`` [P, A, context] only
    whose hand and which.
    """

    pictures: Tensor
    captions: Tensor
    named: Tensor
    names: Tensor

    def batch(self, size: int, *, name_share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random pictures [size, 3, S, S] of two aspects of each of size / 2 people, and one text [size, context] of each.

        No two pictures show the same aspect of the same person, so no caption fits another picture by its name.
        """
        people, aspects, shots = self.pictures.shape[:3]
        who = torch.randperm(people, generator=generator)[: size // 2].repeat_interleave(2)
        order = torch.rand(len(who) // 2, aspects, generator=generator).argsort(dim=1)
        aspect = order[:, :2].flatten()
        shot = torch.randint(shots, who.shape, generator=generator)
        kind = torch.rand(who.shape, generator=generator).unsqueeze(1)
        texts = torch.where(kind < name_share, self.named[who, aspect, shot], self.captions[who, aspect, shot])
        texts = torch.where(kind < name_share / 2, self.names[who, aspect], texts)
        return self.pictures[who, aspect, shot], texts
