"""How several models answer together best: weights fitted to validation answers, and what they are worth there."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from handclip_core.data.inputs import Inputs
from handclip_core.evaluation.bootstrap import Comparison, compare_paired
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.hand_model import HandModel

Ints = NDArray[np.int64]
FEWEST_PEOPLE = 4
"""Fewer people are not halved."""


class Loaded(Protocol):
    """A model in evaluation mode with the ``inputs`` that it reads."""

    @property
    def model(self) -> HandModel:
        """The model."""

    @property
    def inputs(self) -> Inputs:
        """Images in the form that it reads."""


class Answers(ABC):
    """What several models answer to the validation questions; ``objective`` is what weights are fitted for."""

    def __init__(self, models: Sequence[Loaded], objective: str) -> None:
        self.models, self.objective = tuple(models), objective

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
