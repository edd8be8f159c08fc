"""A model as a classifier of the images of one split."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.inputs import Inputs
from handclip_core.evaluation.embed import classified
from handclip_core.evaluation.generic import GENERIC, PROMPTS
from handclip_core.evaluation.joined import FusedBy
from handclip_core.evaluation.metrics import RETENTION
from handclip_core.evaluation.validation_loss import VALIDATION_LOSS
from handclip_core.models.hand_model import HandModel
from handclip_core.models.heads import class_vectors, cosines
from handclip_core.tasks.answers import Loaded
from handclip_core.tasks.base import Dataset, Evaluator, Towers
from handclip_core.tasks.classes.answers import ClassAnswers
from handclip_core.tasks.classes.scores import CALIBRATION_ERROR, ZERO_SHOT, ClassScores

Ints = NDArray[np.int64]


class ClassEvaluator(Evaluator):
    """Judges the head's logits, or the names of the classes as a model's own text tower reads them.

    ``sentences`` with the names, as many of each and a class's together, are the zero-shot classifier beside it.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Ints,
        towers: Towers,
        *,
        names: tuple[str, ...],
        labels: Ints,
        sentences: Sequence[str],
    ) -> None:
        super().__init__(dataset, rows, towers)
        self.names, self.truth, self._sentences = names, labels[rows], sentences
        self._clusters = np.unique(dataset.identities[rows], return_inverse=True)[1].astype(np.int64)

    def evaluate(self, model: HandModel, inputs: Inputs) -> ClassScores:
        """How good the head's logits are."""
        return self._scores(self._outputs(model, inputs)[0])

    def answers(self, models: Sequence[Loaded], *, by: FusedBy, objective: str) -> ClassAnswers:
        """The mean of their probabilities."""
        assert by is FusedBy.SCORE, "the one way of the task"
        return ClassAnswers(models, objective, evaluator=self)

    def validate(self, model: HandModel, inputs: Inputs) -> dict[str, float]:
        """The figures of ``evaluate``; how often the fine-tuned towers' own zero-shot classifier is right; the share
        of the pretrained one's right answers that the head still gives; how much of the order of generic prompts is
        left; and the cross-entropy of the logits.
        """
        logits, projected = self._outputs(model, inputs)
        scores = self._scores(logits)
        right, before = scores.predicted == self.truth, self._zero_shot_right
        kept = float((right & before).sum() / before.sum()) if before.any() else 1.0
        read = model.read_texts(self._sentences)
        now = float((self._by_names(projected, read) == self.truth).mean())
        loss = F.cross_entropy(logits.double(), torch.from_numpy(self.truth)).item()
        extra = {ZERO_SHOT: now, RETENTION: kept, CALIBRATION_ERROR: scores.calibration_error, VALIDATION_LOSS: loss}
        extra[GENERIC.name] = self.generic_retention(projected, model.read_texts(PROMPTS))
        return scores.metrics | extra

    @cached_property
    def _pretrained(self) -> Tensor:
        """Embeddings of the sentences by the pretrained text tower."""
        return self.towers.read(self._sentences).embedding.cpu()

    @cached_property
    def _zero_shot_right(self) -> NDArray[np.bool_]:
        found = self._by_names(Tensor(self.towers.projected(self.rows)), None)
        return np.asarray(found == self.truth)

    def _by_names(self, projected: Tensor, texts: Tensor | None) -> Ints:
        """The class of each image by embeddings of the sentences; None stands for the pretrained text tower's."""
        classes = class_vectors(self._pretrained if texts is None else texts, len(self.names))
        return np.asarray(cosines(projected, classes).argmax(dim=1).numpy(), np.int64)

    def _outputs(self, model: HandModel, inputs: Inputs) -> tuple[Tensor, Tensor]:
        return classified(
            model,
            inputs,
            self.rows,
            aspects=self.dataset.aspect_indices,
            device=self.towers.device,
            num_classes=len(self.names),
        )

    def _scores(self, logits: Tensor) -> ClassScores:
        probabilities = logits.double().softmax(dim=1).numpy()
        return ClassScores(self.names, self.rows, self.truth, self._clusters, probabilities)
