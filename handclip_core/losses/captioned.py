"""Losses between images and captions that the data give them."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from handclip_core.losses.term import Loss
from handclip_core.types import Batch, Output, Texts


class CaptionedLoss(nn.Module):
    """``loss`` between images and texts, in which the class of an image is its caption, not its identity.

    Fine-tuning as CLIP was pretrained (FLYP: Goyal 2023, arXiv 2212.00638), but for the frozen text tower. Its buffers
    follow from the data and are in no checkpoint.
    """

    captions: Tensor
    caption_of_row: Tensor

    def __init__(self, loss: Loss, captions: Tensor, caption_of_row: Tensor) -> None:
        """``captions`` [T, D] are text embeddings; ``caption_of_row`` [N] says which one each manifest row has."""
        super().__init__()
        self._loss = loss
        self.register_buffer("captions", captions, persistent=False)
        self.register_buffer("caption_of_row", caption_of_row, persistent=False)

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """A scalar."""
        device = self.captions.device
        texts = Texts(self.captions, torch.arange(len(self.captions), device=device))
        captions = self.caption_of_row[batch.rows.to(device)]
        return self._loss(replace(output, texts=texts), replace(batch, labels=captions))
