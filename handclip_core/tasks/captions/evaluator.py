"""A model as a search among the images and the captions of one split."""

from functools import cached_property

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.captions import CaptionPairs
from handclip_core.data.inputs import Inputs
from handclip_core.data.training import ReadTexts
from handclip_core.evaluation.generic import GENERIC, PROMPTS
from handclip_core.evaluation.validation_loss import VALIDATION_LOSS, loss_between
from handclip_core.models.hand_model import HandModel
from handclip_core.tasks.base import Dataset, Evaluator, Rows, Towers
from handclip_core.tasks.captions.scores import CaptionScores, Pairing, score_captions


class CaptionEvaluator(Evaluator):
    """Scores over all images at ``rows`` and the captions in ``pairs`` of them."""

    def __init__(self, dataset: Dataset, rows: Rows, towers: Towers, *, pairs: CaptionPairs) -> None:
        super().__init__(dataset, rows, towers)
        self.pairs = pairs
        self._image = np.searchsorted(rows, pairs.row)
        self._clusters = np.unique(dataset.identities[rows], return_inverse=True)[1].astype(np.int64)

    def evaluate(self, model: HandModel, inputs: Inputs) -> CaptionScores:
        """Scores of ``model``, whose text tower is the pretrained one unless it has one of its own."""
        return self._scores(self.embedded(model, inputs), self._vectors(model.read_texts(self.pairs.texts)))

    def validate(self, model: HandModel, inputs: Inputs) -> dict[str, float]:
        """The figures of ``evaluate``, how much of the order of generic prompts is left, and the loss of the split
        in both directions at the temperature of the pretrained towers.
        """
        images, texts = self.embedded(model, inputs), self._vectors(model.read_texts(self.pairs.texts))
        kept = self.generic_retention(images, model.read_texts(PROMPTS))
        pairs = self._image, self.pairs.text
        loss = loss_between(images, texts, pairs, temperature=self._pretrained.temperature)
        return self._scores(images, texts).metrics | {GENERIC.name: kept, VALIDATION_LOSS: loss}

    def _vectors(self, texts: Tensor | None) -> Tensor:
        """Embeddings of the captions, of length one; None stands for those by the pretrained text tower."""
        read = self._pretrained.embedding if texts is None else texts
        return F.normalize(read.float(), dim=1).cpu()

    def _scores(self, images: Tensor, texts: Tensor) -> CaptionScores:
        pairing = Pairing(images.numpy(), texts.numpy(), self._image, self.pairs.text, self._clusters)
        return score_captions(pairing, self.rows, num_cut=self._pretrained.num_cut)

    @cached_property
    def _pretrained(self) -> ReadTexts:
        return self.towers.read(self.pairs.texts)
