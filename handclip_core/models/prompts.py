"""Learned prompts: a text for every class, some of whose words are vectors of its own."""

import torch
from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models.text_tower import TextTower
from handclip_core.types import Texts

SLOT = "{}"
"""Where the learned tokens stand in a template."""
TOKEN_STD = 0.02
CLASSES_A_PASS = 64
"""Texts that the tower reads at a time if no gradient is wanted."""


class Prompts(nn.Module):
    """``num_tokens`` learned tokens for each of P classes in a common sentence (CLIP-ReID: Li 2023, arXiv 2211.13977).

    While the tokens are trained, ``forward`` reads the texts of a batch's classes; once they are frozen, those of all
    classes: computed once, in float32, and kept for as long as the tokens stay as they are. What is kept follows from
    the tokens alone, so it is in no checkpoint, and a resumed run computes the same again.
    """

    before: Tensor
    after: Tensor

    def __init__(self, tower: TextTower, *, template: str, num_tokens: int, num_classes: int) -> None:
        """Random tokens in ``template``, which has one ``{}``; raises InputError if the text is too long."""
        super().__init__()
        self._tower = tower
        self._kept: Texts | None = None
        self._kept_of = -1
        before, after = (tower.embed_words(words) for words in template.split(SLOT))
        self.register_buffer("before", before[:-1], persistent=False)
        self.register_buffer("after", after[1:], persistent=False)
        length = len(self.before) + num_tokens + len(self.after)
        if length > tower.context_length:
            raise InputError(
                f"strategy.prompts: a text of {length} tokens, {num_tokens} of them learned, is longer than the text "
                f"tower's {tower.context_length}; shorten template or num_tokens"
            )
        self.tokens = nn.Parameter(torch.empty(num_classes, num_tokens, tower.width, device=before.device))
        nn.init.normal_(self.tokens, std=TOKEN_STD)

    def forward(self, labels: Tensor) -> Texts:
        """The texts of a batch with classes ``labels`` [B]: one an image [B, D] while learning, else one a class."""
        if self.learning:
            classes, inverse = labels.unique(return_inverse=True)
            return Texts(self.encode(classes)[inverse], labels)
        if self._kept is None or self._kept_of != self.tokens._version:
            self._kept, self._kept_of = self._all_texts(), self.tokens._version
        return self._kept

    def encode(self, classes: Tensor) -> Tensor:
        """Projected text embeddings [C, D], not normalised, of ``classes`` [C]."""
        before, after = (side.expand(len(classes), -1, -1) for side in (self.before, self.after))
        return self._tower.encode(torch.cat([before, self.tokens[classes], after], dim=1))

    @property
    def learning(self) -> bool:
        """Whether the tokens are trained at present."""
        return self.tokens.requires_grad

    @property
    def temperature(self) -> float:
        """What the backbone was trained to divide the cosines of images and texts by."""
        return self._tower.temperature

    @torch.no_grad()
    def _all_texts(self) -> Texts:
        classes = torch.arange(len(self.tokens), device=self.tokens.device)
        with torch.autocast(self.tokens.device.type, enabled=False):
            return Texts(torch.cat([self.encode(part) for part in classes.split(CLASSES_A_PASS)]), classes)
