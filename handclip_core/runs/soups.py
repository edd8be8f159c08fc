"""Soups and WiSE-FT of trained runs, scored on validation identities: no training, one pass over the images each.

What is mixed is the weights that a model computes with: low-rank updates are merged into theirs first.

The shares of WiSE-FT and the members of a greedy soup are chosen on the identities that they are scored on, so their
scores flatter a little, as a sweep's best trial does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from handclip_core.evaluation.units import Evaluation
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.hand_model import HandModel
from handclip_core.models.lora import has_updates, merged, restored
from handclip_core.models.soup import greedy_members, interpolate, uniform_soup
from handclip_core.runs.closed_forms import fit_metric
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, assemble, context_of, score
from handclip_core.runs.run_folder import load_tensors

ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the fine-tuned weights that WiSE-FT chooses among."""
ALIKE = 0.01
"""Two models count as the same function if at most this share of their answers differs."""

Kind = Literal["uniform soup", "greedy soup", "WiSE-FT"]


@dataclass(frozen=True)
class Ingredient:
    """A trained run: what it is called, its settings, and the file of its weights."""

    name: str
    experiment: Experiment
    weights: Path


@dataclass(frozen=True, eq=False)
class Soup:
    """Positions of the ``members`` of the runs, and the validation ``scores`` of their average, one a seed."""

    kind: Kind
    members: tuple[int, ...]
    scores: tuple[Evaluation, ...]


@dataclass(frozen=True)
class SoupRow:
    """A mixture as a row of a leaderboard; ``alpha`` is the share of the fine-tuned weights in WiSE-FT."""

    kind: Kind
    strategy: str
    members: tuple[str, ...]
    alpha: float | None
    metrics: dict[str, float]
    """Those of the task on the validation split."""

    @property
    def status(self) -> str:
        """What stands in the column of a trial's status."""
        share = "" if self.alpha is None else f" at {self.alpha:g}"
        return f"{self.kind}{share} of {', '.join(self.members)}"


def soup_rows(ingredients: Sequence[Ingredient], *, device: torch.device) -> list[SoupRow]:
    """Soups of the ingredients of each strategy on each backbone, and WiSE-FT of its best one: rows from best to worst.

    All ingredients have the same data. Raises InputError if weights are missing or damaged.
    """
    rows: list[SoupRow] = []
    objective = _objective(ingredients[0]) if ingredients else ""
    for strategy, backbone in dict.fromkeys(map(_kind, ingredients)):
        ours = [item for item in ingredients if _kind(item) == (strategy, backbone)]
        builder = SoupBuilder([[item] for item in ours], device)
        for soup in builder.soups():
            rows.append(_row(soup.kind, strategy, [ours[i].name for i in soup.members], None, soup.scores[0]))
        best = ours[builder.order[0]]
        mixed = wise_ft_scores(best, device=device)
        if mixed:
            alpha = max(mixed, key=lambda share: mixed[share].mean(objective))
            rows.append(_row("WiSE-FT", strategy, [best.name], alpha, mixed[alpha]))
    return sorted(rows, key=lambda row: -row.metrics[objective])


def _kind(item: Ingredient) -> tuple[str, BackboneSettings]:
    """What weights must have in common to be mixed."""
    return item.experiment.strategy.name, item.experiment.backbone


def wise_ft_scores(ingredient: Ingredient, *, device: torch.device) -> dict[float, Evaluation]:
    """Validation scores of WiSE-FT by share of the fine-tuned weights; none for a strategy that trains nothing."""
    context = _context(ingredient, device)
    if not assemble(ingredient.experiment, context).phases:
        return {}
    return {alpha: _scores(mixture([ingredient], alpha=alpha, device=device), context) for alpha in ALPHAS}


def mixture(runs: Sequence[Ingredient], *, alpha: float | None = None, device: torch.device) -> HandModel:
    """The model of the first of ``runs`` with the mean of all their weights, updates merged.

    With ``alpha``, that share of the mean and the rest from the model before training. Raises InputError if weights
    are missing or damaged, or the merged weights of two runs differ in names or shapes.
    """
    context = _context(runs[0], device)
    state = uniform_soup([_merged_weights(run, context) for run in runs])
    model = merged(assemble(runs[0].experiment, context).model)
    model.load_state_dict(state if alpha is None else interpolate(model.state_dict(), state, alpha))
    first = runs[0].experiment
    # The mean of covariances is not the covariance of what the mean weights make of images.
    fit_metric(model, first.strategy, context.pixel_inputs, context, first.part)
    return model


class SoupBuilder:
    """Runs of one strategy, by configuration and seed; every configuration was run on the same seeds."""

    def __init__(self, ingredients: Sequence[Sequence[Ingredient]], device: torch.device) -> None:
        """``ingredients[i][s]`` is configuration i on seed s."""
        self._ingredients = ingredients
        self._device = device
        self._known: dict[tuple[int, ...], tuple[Evaluation, ...]] = {}

    @cached_property
    def order(self) -> list[int]:
        """Positions of the configurations, best first."""
        return sorted(range(len(self._ingredients)), key=lambda position: -self._objective((position,)))

    def soups(self) -> list[Soup]:
        """Of every group of models that can be averaged, the uniform soup, and the greedy one if it is another."""
        found: list[Soup] = []
        for group in self.groups():
            if len(group) < 2:
                continue
            chosen, _ = greedy_members(len(group), partial(self._objective_within, group))
            everyone, greedy = tuple(group), _at(group, chosen)
            found.append(Soup("uniform soup", everyone, self.scores(everyone)))
            if 1 < len(greedy) < len(everyone):
                found.append(Soup("greedy soup", greedy, self.scores(greedy)))
        return found

    def groups(self) -> list[list[int]]:
        """Positions of models that can be averaged: the same weights mean the same in all of a group; best first."""
        groups: list[list[int]] = []
        for position in self.order:
            home = next((group for group in groups if self._alike(group[0], position)), None)
            if home is None:
                groups.append([position])
            else:
                home.append(position)
        return groups

    def scores(self, members: tuple[int, ...]) -> tuple[Evaluation, ...]:
        """Validation scores of the average of ``members`` on each seed, in the model of the first of them."""
        if members not in self._known:
            by_seed = zip(*(self._ingredients[position] for position in members), strict=True)
            self._known[members] = tuple(self._average(list(runs)) for runs in by_seed)
        return self._known[members]

    def _average(self, runs: Sequence[Ingredient]) -> Evaluation:
        return _scores(mixture(runs, device=self._device), _context(runs[0], self._device))

    def _objective_within(self, group: Sequence[int], chosen: tuple[int, ...]) -> float:
        return self._objective(_at(group, chosen))

    def _objective(self, members: tuple[int, ...]) -> float:
        name = _objective(self._ingredients[0][0])
        return float(np.mean([scores.mean(name) for scores in self.scores(members)]))

    def _alike(self, one: int, other: int) -> bool:
        """Whether the model of ``one`` with the weights of ``other`` is the model of ``other``."""
        host, guest = self._ingredients[one][0], self._ingredients[other][0]
        context = _context(host, self._device)
        weights = _merged_weights(guest, context)
        try:
            model = restored(assemble(host.experiment, context).model, weights)
        except RuntimeError:
            return False  # other names or shapes
        found = _scores(model, context)
        return bool(np.mean(found.answers != self.scores((other,))[0].answers) <= ALIKE)


def _at(group: Sequence[int], positions: Sequence[int]) -> tuple[int, ...]:
    return tuple(group[position] for position in positions)


def _context(ingredient: Ingredient, device: torch.device) -> ExperimentContext:
    return context_of(ingredient.experiment, device)


def _objective(ingredient: Ingredient) -> str:
    return ingredient.experiment.task.metrics.objective.name


def _merged_weights(run: Ingredient, context: ExperimentContext) -> dict[str, Tensor]:
    """The weights of ``run``, updates merged, on the CPU."""
    state = load_tensors(run.weights)
    if not has_updates(state):
        return state
    model = merged(restored(assemble(run.experiment, context).model, state))
    return {name: value.cpu() for name, value in model.state_dict().items()}


def _scores(model: HandModel, context: ExperimentContext) -> Evaluation:
    return score(context, model, context.pixel_inputs, "val")


def _row(kind: Kind, strategy: str, members: Sequence[str], alpha: float | None, scores: Evaluation) -> SoupRow:
    return SoupRow(kind, strategy, tuple(members), alpha, scores.metrics)
