"""Models whose text tower is trained beside their image tower."""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from handclip_core.data.captions import CaptionPairs
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import Classifier, HandModel
from handclip_core.models.heads import class_vectors, cosines
from handclip_core.models.neck import NeckSettings
from handclip_core.types import Batch, Encoded, Matching, ModelInputs, Output

TEXTS_A_PASS = 128


class DualModel(HandModel):
    """Both towers of a CLIP. Where images have classes, what its text tower makes of their names classifies them.

    A step reads the ``sentences`` of all classes, and so does every process of several; images are what is read in
    parts.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        sentences: Sequence[str] = (),
        num_classes: int = 0,
        temperature: float | None,
        lowest: float,
    ) -> None:
        """``backbone`` has its text tower; ``temperature``, none for its own, is kept at ``lowest`` or above.

        ``sentences`` with the names of P = ``num_classes`` classes, as many of each, a class's together.
        """
        super().__init__(backbone, NeckSettings().build(backbone), num_classes=0)
        self._sentences, self._num_classes = tuple(sentences), num_classes
        self._highest = -math.log(lowest)
        if temperature is not None:
            self._scale.data.fill_(-math.log(temperature))

    def forward_head(self, encoded: Encoded, batch: Batch) -> Output:
        """The images' embeddings, and their logits over all classes."""
        read = self.backbone.encode_text(self._tokens.to(batch.labels.device))
        logits = self.multiplier() * cosines(encoded.projected, class_vectors(read, self._num_classes))
        return Output(encoded, encoded.projected, logits)

    def classifier(self) -> Classifier:
        """Logits by the names of the classes, which are read here; the model is left in evaluation mode."""
        classes = class_vectors(self.read_texts(self._sentences).to(self._scale.device), self._num_classes)

        def classify(inputs: ModelInputs, aspects: Tensor) -> tuple[Tensor, Tensor]:
            projected = self.forward_trunk(inputs, aspects).projected
            return self._scale.exp() * cosines(projected, classes), projected

        return classify

    @property
    def has_text_tower(self) -> bool:
        """Captions are read."""
        return True

    @torch.no_grad()
    def read_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings [T, D] of texts, on the CPU; the model is left in evaluation mode."""
        self.eval()
        parts = (texts[start : start + TEXTS_A_PASS] for start in range(0, len(texts), TEXTS_A_PASS))
        device = self._scale.device
        read = [self.backbone.encode_text(self.backbone.tokenize(part).to(device)).cpu() for part in parts]
        return torch.cat(read)

    def multiplier(self) -> Tensor:
        """What cosines are multiplied by, a scalar; in training it is brought back to where it may be."""
        if self.training:
            with torch.no_grad():
                self._scale.clamp_(max=self._highest)
        return self._scale.exp()

    @cached_property
    def _tokens(self) -> Tensor:
        return self.backbone.tokenize(self._sentences)

    @property
    def _scale(self) -> nn.Parameter:
        """The logarithm of what cosines are multiplied by."""
        assert self.backbone.logit_scale is not None, "load_backbone(..., text=True) keeps the text tower"
        return self.backbone.logit_scale


class PairModel(DualModel):
    """Both towers before pairs; the label of an image in a batch is the text in ``pairs`` that is shown for it.

    Texts are read as they come: the tokens of all of them would fill the memory of large data sets. The whole batch
    of texts is read at once, and by every process of several.
    """

    captions_of_row: Tensor

    def __init__(
        self,
        backbone: Backbone,
        pairs: CaptionPairs,
        *,
        sentences: Sequence[str] = (),
        num_classes: int = 0,
        temperature: float | None,
        lowest: float,
        bias: float,
        word_dropout: float = 0.0,
    ) -> None:
        """As ``DualModel``; ``bias`` is what the sigmoid loss adds to cosines.

        In training, a share ``word_dropout`` of a text's words is left out.
        """
        super().__init__(backbone, sentences=sentences, num_classes=num_classes, temperature=temperature, lowest=lowest)
        self._texts, self._word_dropout = pairs.texts, word_dropout
        self.bias = nn.Parameter(torch.tensor(bias))
        self.register_buffer("captions_of_row", torch.from_numpy(_by_row(pairs)), persistent=False)

    def forward_head(self, encoded: Encoded, batch: Batch) -> Output:
        """The images' embeddings, and those of the texts that are shown for them."""
        scale = self.multiplier()
        shown = [self._texts[label] for label in batch.labels.tolist()]
        if self.training and self._word_dropout:
            shown = [_thinned(text, self._word_dropout) for text in shown]
        tokens = self.backbone.tokenize(shown)
        texts = self.backbone.encode_text(tokens.to(batch.labels.device))
        known = self.captions_of_row[batch.rows.to(self.captions_of_row.device)]
        positive = (known[:, None, :] == batch.labels[None, :, None]).any(dim=2)
        matching = Matching(texts, positive, scale=scale, bias=self.bias)
        return Output(encoded, encoded.projected, encoded.projected, matching=matching)


def _thinned(text: str, dropout: float) -> str:
    """``text`` without a share of its words, drawn from torch's global generator; one stays at least."""
    words = text.split()
    drawn = torch.rand(len(words))
    drawn[int(drawn.argmax())] = 1.0
    return " ".join(word for word, value in zip(words, drawn.tolist(), strict=True) if value >= dropout)


def _by_row(pairs: CaptionPairs) -> np.ndarray:
    """The captions of each manifest row [N, most of a row], filled up with -1."""
    counts = np.bincount(pairs.row)
    order = np.argsort(pairs.row, kind="stable")
    row, text = pairs.row[order], pairs.text[order]
    place = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    found = np.full((len(counts), int(counts.max())), -1, np.int64)
    found[row, place] = text
    return found
