"""What competes in the finals: every configuration that ran on all seeds, and what can be mixed from their weights."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from handclip_core.devices import select_device
from handclip_core.documents import read_document
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.units import Evaluation
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.final_scores import SCORES, Facts, wise_ft_file
from handclip_core.runs.run_folder import FINAL, write_json
from handclip_core.runs.soups import ALPHAS, Ingredient, SoupBuilder
from handclip_core.tasks import AnyTask
from search_spaces.arms import arm_of
from tune_jobs.finals.candidates import Finalist
from tune_jobs.lifecycle.export_best import replaced
from tune_jobs.storage.location import StorageLocation, local_copy

SOUPS = "soups.json"


class Kind(StrEnum):
    """What an entrant is."""

    TRAINED = "trained"
    """One configuration as it was trained."""
    MIXTURE = "mixture"
    """One model, whose weights are mixed from those of several."""
    FUSION = "fusion"
    """Several models that answer together."""


@dataclass(frozen=True)
class Recipe:
    """How a model comes about: one configuration, several mixed or fused, or one mixed with what it began from."""

    members: tuple[Finalist, ...]
    alpha: float | None = None
    """Share of the trained weights in WiSE-FT; None for no mixing with untrained ones."""
    fusion: ScoreFusion | None = None
    """How the scores of members on different backbones become one, for a final fit; None if weights are mixed."""

    @property
    def kind(self) -> Kind:
        """How many models it takes, and whether they stay apart."""
        if self.fusion is not None:
            return Kind.FUSION
        return Kind.TRAINED if len(self.members) == 1 and self.alpha is None else Kind.MIXTURE

    @property
    def strategy(self) -> str:
        """The strategy of its members; those of a fusion may have several."""
        return self.members[0].strategy if self.fusion is None else Kind.FUSION

    @property
    def backbones(self) -> tuple[str, ...]:
        """What the backbones of its members are called; an empty text if the sweep has only one."""
        return tuple(dict.fromkeys(member.backbone for member in self.members))

    @property
    def backbone(self) -> str:
        """The backbones as one text."""
        return " + ".join(self.backbones)

    @property
    def arm(self) -> str:
        """Strategy and backbone."""
        return arm_of(self.strategy, self.backbone)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of the search that its members are from, each once."""
        return tuple(dict.fromkeys(member.arm for member in self.members))

    @property
    def task(self) -> AnyTask:
        """What its members learned."""
        return self.members[0].experiment.task


@dataclass(frozen=True, eq=False)
class Entrant:
    """A row of the finals: validation ``scores`` on each seed, and the ``facts`` of its members' runs on each."""

    name: str
    recipe: Recipe
    scores: tuple[Evaluation, ...]
    facts: tuple[tuple[Facts, ...], ...]

    @property
    def single(self) -> bool:
        """Whether it is one configuration as it was trained."""
        return self.recipe.kind is Kind.TRAINED

    @property
    def mean(self) -> float:
        """The objective, a mean over seeds."""
        return mean_of(self.scores, self.recipe.task)


@dataclass(frozen=True)
class Complete:
    """A finalist with a complete run on every seed: the folders of their scores, their facts, and their last states."""

    finalist: Finalist
    folders: tuple[Path, ...]
    facts: tuple[Facts, ...]
    states: tuple[StorageLocation, ...]

    def runs(self, seeds: Sequence[int]) -> list[tuple[Experiment, StorageLocation]]:
        """The experiment of each run, which are those on ``seeds``, and its last state."""
        return list(zip(map(self.finalist.on, seeds), self.states, strict=True))

    def scores(self, file: str) -> tuple[Evaluation, ...]:
        """The scores in ``file`` of each run."""
        return tuple(self.finalist.experiment.task.load(folder / file) for folder in self.folders)


def entrants_of(complete: Sequence[Complete], soups: Path) -> list[Entrant]:
    """All entrants; ``soups`` holds what `mix` made of the runs of each arm."""
    found = [entrant_of(one.finalist.name, Recipe((one.finalist,)), one.scores(SCORES), [one]) for one in complete]
    for group in mixable(complete).values():
        found += _wise_ft(group)
        found += _soups(group, soups / group_name(group))
    return found


def mixable(complete: Sequence[Complete]) -> dict[str, list[Complete]]:
    """The finalists of each strategy on each backbone, whose weights can be mixed."""
    groups: dict[str, list[Complete]] = {}
    for one in complete:
        groups.setdefault(one.finalist.arm, []).append(one)
    return groups


def group_name(group: Sequence[Complete]) -> str:
    """Name of the folder of what is mixed from ``group``: another set of runs has another."""
    runs = sorted(f"{state.parent.name}/{state.name}" for one in group for state in one.states)
    return f"{group[0].finalist.strategy}-{hashlib.sha256(' '.join(runs).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Mixed:
    """Soups: kind, keys of the members, and scores on each seed."""

    soups: tuple[tuple[str, tuple[str, ...], tuple[Evaluation, ...]], ...]

    def save(self, folder: Path, task: AnyTask) -> None:
        """Write them, evaluations of ``task``, into ``folder``, whole or not at all."""
        with replaced(folder) as made:
            made.mkdir(parents=True)
            for number, (_, _, by_seed) in enumerate(self.soups):
                for seed, scores in enumerate(by_seed):
                    task.save(made / f"{number}-{seed}.npz", scores)
            write_json(made / SOUPS, [{"kind": kind, "members": members} for kind, members, _ in self.soups])


def mix(group: Sequence[Complete], seeds: Sequence[int], device: str) -> Mixed:
    """Soups of the runs of ``group`` on ``seeds``."""
    with ExitStack() as opened:
        runs = [
            [
                Ingredient(one.finalist.key, experiment, opened.enter_context(local_copy(state)) / FINAL)
                for experiment, state in one.runs(seeds)
            ]
            for one in group
        ]
        found = SoupBuilder(runs, select_device(device)).soups()
    return Mixed(tuple((soup.kind, tuple(group[i].finalist.key for i in soup.members), soup.scores) for soup in found))


def _wise_ft(group: Sequence[Complete]) -> list[Entrant]:
    """WiSE-FT of a strategy: of its finalists and shares, the one with the best mean over seeds."""
    best: Entrant | None = None
    for one in group:
        for alpha in ALPHAS:
            # What trains no tower has no weights to mix with those that it began from.
            if not (one.folders[0] / wise_ft_file(alpha)).exists():
                continue
            label = one.finalist.name.partition(", ")[2]
            name = f"{one.finalist.arm}, WiSE-FT {alpha:g} of {label}"
            found = entrant_of(name, Recipe((one.finalist,), alpha), one.scores(wise_ft_file(alpha)), [one])
            if best is None or found.mean > best.mean:
                best = found
    return [] if best is None else [best]


def _soups(group: Sequence[Complete], folder: Path) -> list[Entrant]:
    if not (folder / SOUPS).exists():
        return []
    by_key = {one.finalist.key: one for one in group}
    found = []
    for number, soup in enumerate(read_document(folder / SOUPS)):
        members = [by_key[key] for key in soup["members"]]
        labels = ", ".join(one.finalist.name.partition(", ")[2] for one in members)
        task = members[0].finalist.experiment.task
        scores = tuple(task.load(folder / f"{number}-{seed}.npz") for seed in range(len(members[0].folders)))
        recipe = Recipe(tuple(one.finalist for one in members))
        found.append(entrant_of(f"{recipe.arm}, {soup['kind']} of {labels}", recipe, scores, members))
    return found


def entrant_of(name: str, recipe: Recipe, scores: tuple[Evaluation, ...], members: Sequence[Complete]) -> Entrant:
    """A row of what was made of the runs of ``members``."""
    return Entrant(name, recipe, scores, tuple(one.facts for one in members))


def mean_of(scores: Sequence[Evaluation], task: AnyTask) -> float:
    """The objective, a mean over the runs of some seeds."""
    return float(np.mean([one.mean(task.metrics.objective.name) for one in scores]))
