"""How several models answer together best: weights fitted to validation answers, and what they are worth there."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.evaluation.bootstrap import Comparison, compare_paired
from handclip_core.evaluation.fusion import (
    ScoreFusion,
    ValidationSet,
    equal_score_fusion,
    fit_score_fusion,
    search_weights,
)
from handclip_core.evaluation.joined import FusedBy
from handclip_core.evaluation.protocol import ProtocolScores, collect
from handclip_core.evaluation.similarity import cosine
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.ensemble import joined_of
from handclip_core.runs.loaded import LoadedRun
from handclip_core.tasks.base import Evaluator
from handclip_core.tasks.classes.scores import ClassScores
from handclip_core.tasks.identities.evaluator import IdentityEvaluator

Ints = NDArray[np.int64]
FEWEST_PEOPLE = 4
"""Fewer people are not halved."""


class Answers(ABC):
    """What several models answer to the validation questions; ``objective`` is what weights are fitted for."""

    def __init__(self, runs: Sequence[LoadedRun]) -> None:
        self.runs = tuple(runs)
        self.objective = runs[0].context.task.metrics.objective.name

    @property
    @abstractmethod
    def singles(self) -> Sequence[Evaluation]:
        """How good each model is by itself."""

    @property
    @abstractmethod
    def people(self) -> Ints:
        """Who the questions are about, each once; in the task classes, images that belong together."""

    def can_fit(self, among: Ints) -> bool:
        """Whether questions about ``among`` tell weights apart; to halves of the people it may be that none does."""
        return len(among) > 0

    @abstractmethod
    def fit(self, among: Ints) -> ScoreFusion:
        """Weights for the highest objective on the questions about ``among``, some of the people."""

    @abstractmethod
    def equal(self) -> ScoreFusion:
        """Equal weights."""

    @abstractmethod
    def score(self, fusion: ScoreFusion) -> Evaluation:
        """How good the models are together."""

    @abstractmethod
    def halves(self, one: Evaluation, other: Evaluation, among: Ints) -> Evaluation:
        """The answers of ``one`` to questions about ``among``, those of ``other`` to all others."""

    @cached_property
    def best(self) -> int:
        """The model that is best by itself, the first of equals."""
        return int(np.argmax([one.mean(self.objective) for one in self.singles]))

    def against_best(self, together: Evaluation) -> Comparison:
        """The models together against the best of them."""
        return compare_paired(together, self.singles[self.best], self.objective)

    def crossed(self) -> Evaluation | None:
        """Each half of the people answered by weights fitted to the other; None if there are too few to fit."""
        if len(self.people) < FEWEST_PEOPLE:
            return None
        mixed = np.random.default_rng(0).permutation(self.people)
        first, second = mixed[::2], mixed[1::2]
        if not (self.can_fit(first) and self.can_fit(second)):
            return None
        return self.halves(self.score(self.fit(second)), self.score(self.fit(first)), first)


@dataclass(frozen=True, eq=False)
class Fused:
    """Models together: ``fusion`` as it would be used, and validation ``scores`` that no question's own people fitted.

    ``crossed`` says that those are of weights fitted to the other half of the people; else the weights are equal.
    """

    fusion: ScoreFusion
    scores: Evaluation
    crossed: bool


def cross_fitted(answers: Answers) -> Fused:
    """Weights fitted to all people, judged by weights of each half on the other; equal ones if there are too few."""
    found = answers.crossed()
    if found is None:
        equal = answers.equal()
        return Fused(equal, answers.score(equal), crossed=False)
    return Fused(answers.fit(answers.people), found, crossed=True)


class GalleryAnswers(Answers):
    """Searches in galleries, fused ``by`` one of the ways."""

    def __init__(self, runs: Sequence[LoadedRun], evaluator: IdentityEvaluator, by: FusedBy) -> None:
        super().__init__(runs)
        self.evaluator, self.by = evaluator, by

    @cached_property
    def singles(self) -> Sequence[Evaluation]:
        """Each model by its own similarity, or the distance."""
        return [self.evaluator.evaluate(run.model, run.inputs) for run in self.runs]

    @cached_property
    def people(self) -> Ints:
        """Who is searched for."""
        return np.unique(np.concatenate([np.asarray(one.query_ids) for one in self._sets]))

    def can_fit(self, among: Ints) -> bool:
        """Whether any of them has a match in a gallery."""
        return any(_about(one, among) is not None for one in self._sets)

    def fit(self, among: Ints) -> ScoreFusion:
        """By mean mAP over aspects and draws; votes have equal weights."""
        sets = [part for one in self._sets if (part := _about(one, among)) is not None]
        if self.by is FusedBy.VOTE:
            return equal_score_fusion(sets)
        return fit_score_fusion(sets, standardise=self.by is FusedBy.SCORE)

    def equal(self) -> ScoreFusion:
        """Of scores brought to one scale."""
        return equal_score_fusion(self._sets)

    def score(self, fusion: ScoreFusion) -> ProtocolScores:
        """Figures over all draws."""
        joined = joined_of([run.model for run in self.runs], self.by, fusion)
        return self.evaluator.scores_of(joined.join(self._vectors), similarity=joined.similarity)

    def halves(self, one: Evaluation, other: Evaluation, among: Ints) -> ProtocolScores:
        """Query by query."""
        assert isinstance(one, ProtocolScores)
        assert isinstance(other, ProtocolScores)
        first, columns = (
            np.isin(self.evaluator.identity_codes[one.queries.row], among),
            ("ap", "ap_trapezoid", "inp", "first_rank"),
        )
        mixed = {name: np.where(first, getattr(one.queries, name), getattr(other.queries, name)) for name in columns}
        queries = replace(one.queries, **mixed)
        return collect(queries, one.aspects, gallery=one.gallery, without_query=one.without_query)

    @cached_property
    def _vectors(self) -> list[Tensor]:
        return [self.evaluator.embedded(run.model, run.inputs) for run in self.runs]

    @cached_property
    def _sets(self) -> list[ValidationSet]:
        return [
            ValidationSet(
                tuple(
                    (run.model.pairwise_similarity or cosine)(vectors[search.query], vectors[search.gallery])
                    .cpu()
                    .numpy()
                    for run, vectors in zip(self.runs, self._vectors, strict=True)
                ),
                search.query_ids,
                search.gallery_ids,
            )
            for search in self.evaluator.measured_searches()
        ]


class ClassAnswers(Answers):
    """Probabilities of classes, of which the weighted mean is taken."""

    def __init__(self, runs: Sequence[LoadedRun], evaluator: Evaluator) -> None:
        super().__init__(runs)
        self.evaluator = evaluator

    @cached_property
    def singles(self) -> Sequence[ClassScores]:
        """Each classifier by itself."""
        found = []
        for run in self.runs:
            scores = self.evaluator.evaluate(run.model, run.inputs)
            assert isinstance(scores, ClassScores)
            found.append(scores)
        return found

    @cached_property
    def people(self) -> Ints:
        """Images, or groups of them that belong together."""
        return np.unique(self.singles[0].clusters)

    def fit(self, among: Ints) -> ScoreFusion:
        """By the task's objective."""
        kept, num = np.isin(self.singles[0].clusters, among), len(self.runs)

        def objective(weights: Sequence[float]) -> float:
            mean = self._mean(weights)
            about = {name: getattr(mean, name)[kept] for name in ("rows", "truth", "clusters", "probabilities")}
            return replace(mean, **about).mean(self.objective)

        return ScoreFusion.of_cosines(search_weights(num, objective)[0])

    def equal(self) -> ScoreFusion:
        """The plain mean."""
        num = len(self.runs)
        return ScoreFusion.of_cosines((1 / num,) * num)

    def score(self, fusion: ScoreFusion) -> ClassScores:
        """The mean probabilities as a classifier."""
        return self._mean(fusion.weights)

    def halves(self, one: Evaluation, other: Evaluation, among: Ints) -> ClassScores:
        """Image by image."""
        assert isinstance(one, ClassScores)
        assert isinstance(other, ClassScores)
        first = np.isin(one.clusters, among)[:, None]
        return replace(one, probabilities=np.where(first, one.probabilities, other.probabilities))

    def _mean(self, weights: Sequence[float]) -> ClassScores:
        each = [one.probabilities * weight for one, weight in zip(self.singles, weights, strict=True)]
        return replace(self.singles[0], probabilities=np.sum(each, axis=0))


def answers_of(runs: Sequence[LoadedRun], by: FusedBy) -> Answers:
    """What ``runs``, fused ``by`` one of the ways, answer to the validation questions of the first."""
    evaluator = runs[0].context.evaluator("val")
    if isinstance(evaluator, IdentityEvaluator):
        return GalleryAnswers(runs, evaluator, by)
    return ClassAnswers(runs, evaluator)


def _about(one: ValidationSet, among: Ints) -> ValidationSet | None:
    """The queries of ``among``; None if none of them has a match."""
    asked = np.asarray(one.query_ids)
    kept = np.isin(asked, among)
    if not np.isin(asked[kept], np.asarray(one.gallery_ids)).any():
        return None
    return ValidationSet([scores[kept] for scores in one.similarities], asked[kept], one.gallery_ids)
