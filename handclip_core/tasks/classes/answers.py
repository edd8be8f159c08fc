"""Probabilities of classes that several models give together."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from handclip_core.evaluation.fusion import ScoreFusion, search_weights
from handclip_core.evaluation.units import Evaluation
from handclip_core.tasks.answers import Answers, Ints, Loaded
from handclip_core.tasks.classes.scores import ClassScores

if TYPE_CHECKING:
    from handclip_core.tasks.classes.evaluator import ClassEvaluator


class ClassAnswers(Answers):
    """Probabilities of classes, of which the weighted mean is taken."""

    def __init__(self, models: Sequence[Loaded], objective: str, *, evaluator: "ClassEvaluator") -> None:
        super().__init__(models, objective)
        self.evaluator = evaluator

    @cached_property
    def singles(self) -> Sequence[ClassScores]:
        """Each classifier by itself."""
        return [self.evaluator.evaluate(one.model, one.inputs) for one in self.models]

    @cached_property
    def people(self) -> Ints:
        """Images, or groups of them that belong together."""
        return np.unique(self.singles[0].clusters)

    def fit(self, among: Ints) -> ScoreFusion:
        """By the task's objective."""
        kept, num = np.isin(self.singles[0].clusters, among), len(self.models)

        def objective(weights: Sequence[float]) -> float:
            mean = self._mean(weights)
            about = {name: getattr(mean, name)[kept] for name in ("rows", "truth", "clusters", "probabilities")}
            return replace(mean, **about).mean(self.objective)

        return ScoreFusion.of_cosines(search_weights(num, objective)[0])

    def equal(self) -> ScoreFusion:
        """The plain mean."""
        num = len(self.models)
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
