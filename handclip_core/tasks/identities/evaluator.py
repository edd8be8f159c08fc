"""Scores of a model over the gallery splits of one split."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.inputs import Inputs
from handclip_core.data.manifest import GallerySplit
from handclip_core.evaluation.embed import aspect_accuracy
from handclip_core.evaluation.fusion import Search
from handclip_core.evaluation.gallery_splits import Similarity
from handclip_core.evaluation.joined import FusedBy
from handclip_core.evaluation.metrics import RETENTION
from handclip_core.evaluation.protocol import (
    GalleryKind,
    ProtocolScores,
    QueryScores,
    aspects_of,
    score_gallery_splits,
    sides_of,
)
from handclip_core.evaluation.retention import retention
from handclip_core.evaluation.similarity import Distance, euclidean
from handclip_core.evaluation.validation_loss import VALIDATION_LOSS, loss_among
from handclip_core.models.hand_model import HandModel
from handclip_core.tasks.answers import Loaded
from handclip_core.tasks.base import Dataset, Evaluator, Towers
from handclip_core.tasks.identities.answers import GalleryAnswers
from handclip_core.types import Aspect

ASPECT_ACCURACY = "aspect_accuracy"
QUERY, GALLERY = "query_embeddings.npy", "gallery_embeddings.npy"
CALIBRATED_ON = 3
"""Gallery splits that a model is calibrated on; they share their images."""


class IdentityEvaluator(Evaluator):
    """Scores over ``gallery_splits``."""

    def __init__(
        self,
        dataset: Dataset,
        rows: NDArray[np.int64],
        towers: Towers,
        *,
        gallery_splits: tuple[GallerySplit, ...],
        gallery: GalleryKind,
        distance: Distance,
    ) -> None:
        super().__init__(dataset, rows, towers)
        self.gallery_splits, self.gallery, self.distance = gallery_splits, gallery, distance

    def evaluate(self, model: HandModel, inputs: Inputs) -> ProtocolScores:
        """Scores of ``model``, by its own similarity if it has one."""
        return self.scores_of(self._compared(model, inputs), similarity=model.similarity)

    def scores_of(self, vectors: NDArray[Any] | Tensor, *, similarity: Similarity | None = None) -> ProtocolScores:
        """Scores of ``vectors`` [n, D] of ``rows``, by the distance unless there is another ``similarity``."""
        raw = self.distance is Distance.EUCLIDEAN and similarity is None
        return score_gallery_splits(
            vectors,
            self.rows,
            self.gallery_splits,
            self.dataset.identities,
            gallery=self.gallery,
            similarity=euclidean if raw else similarity,
            unit=not raw,
        )

    def answers(self, models: Sequence[Loaded], *, by: FusedBy, objective: str) -> GalleryAnswers:
        """To the searches of all gallery splits."""
        return GalleryAnswers(models, objective, evaluator=self, by=by)

    def validate(self, model: HandModel, inputs: Inputs) -> dict[str, float]:
        """The means over aspects and gallery splits, by the names in METRICS, RETENTION, VALIDATION_LOSS, and
        ASPECT_ACCURACY for models that tell aspects.

        The loss is among all images of the split, those of an identity's aspect being right for each other.
        """
        embeddings = self._compared(model, inputs)
        scores = self.scores_of(embeddings, similarity=model.similarity)
        loss = loss_among(F.normalize(embeddings, dim=1), self._kinds)
        aspects, device = self.dataset.aspect_indices, self.towers.device
        accuracy = aspect_accuracy(model, inputs, self.rows, aspects=aspects, device=device)
        told = {VALIDATION_LOSS: loss} | ({} if accuracy is None else {ASPECT_ACCURACY: accuracy})
        return scores.metrics | {RETENTION: retention(scores.queries, self.zero_shot_queries)} | told

    def _compared(self, model: HandModel, inputs: Inputs) -> Tensor:
        """Embeddings [n, W] of ``rows`` [n] as they are compared: of length one, but by Euclidean distance."""
        raw = self.distance is Distance.EUCLIDEAN and model.similarity is None
        return self.embedded(model, inputs, unit=not raw)

    @cached_property
    def _kinds(self) -> NDArray[np.int64]:
        """A number for identity and aspect of each of ``rows`` [n]."""
        aspects = self.dataset.aspect_indices
        return np.asarray(self.identity_codes * (aspects.max() + 1) + aspects)[self.rows]

    @cached_property
    def zero_shot_queries(self) -> QueryScores:
        """What the pretrained backbone scores on each query, by its projected embedding."""
        return self.scores_of(self.towers.projected(self.rows)).queries

    def searches(self, aspect: Aspect) -> Sequence[Search]:
        """The queries of an aspect and their galleries in some gallery splits; without those where one is empty."""
        place, who = {int(row): index for index, row in enumerate(self.rows)}, self.dataset.identities
        found = []
        for gallery_split in self.gallery_splits[:CALIBRATED_ON]:
            query, gallery = (side.get(aspect) for side in (gallery_split.query, gallery_split.gallery))
            if query and gallery:
                at, among = (np.array([place[row] for row in rows]) for rows in (query, gallery))
                found.append(Search(at, among, who[list(query)], who[list(gallery)]))
        return found

    @cached_property
    def identity_codes(self) -> NDArray[np.int64]:
        """The identity of every manifest row as a number."""
        return np.unique(self.dataset.identities, return_inverse=True)[1].astype(np.int64)

    def measured_searches(self) -> list[Search]:
        """The searches that figures are means over, their distractors included.

        Identities are codes; a distractor's is -1, which no query has.
        """
        place = {int(row): index for index, row in enumerate(self.rows)}
        codes = self.identity_codes
        found = []
        for gallery_split in self.gallery_splits:
            for aspect in aspects_of(self.gallery_splits):
                sides = sides_of(gallery_split, aspect, self.gallery)
                who = codes[sides.gallery]
                if np.isin(codes[sides.query], who).any():
                    among = np.concatenate([sides.gallery, sides.distractors])
                    at, of = (np.array([place[int(row)] for row in rows], np.int64) for rows in (sides.query, among))
                    nobody = np.full(len(sides.distractors), -1, np.int64)
                    found.append(Search(at, of, codes[sides.query], np.concatenate([who, nobody])))
        return found

    @property
    def kept(self) -> Mapping[str, Sequence[int]]:
        """Queries and gallery of the first gallery split, aspect by aspect in its order."""
        first = self.gallery_splits[0]
        sides = {QUERY: first.query, GALLERY: first.gallery}
        return {name: [row for part in side.values() for row in part] for name, side in sides.items()}
