"""Finalists on different backbones as one model: the best configuration of each, their scores fused."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from handclip_core.devices import select_device
from handclip_core.documents import read_document
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.joined import FusedBy
from handclip_core.models.lora import restored
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, built, context_of
from handclip_core.runs.final_scores import SCORES
from handclip_core.runs.loaded import LoadedRun
from handclip_core.runs.run_folder import FINAL, load_tensors, write_json
from handclip_core.tasks import AnyTask
from handclip_core.tasks.answers import Fused, cross_fitted
from tune_jobs.finals.mixtures import Complete, Entrant, Recipe, entrant_of, group_name, mean_of
from tune_jobs.lifecycle.export_best import replaced
from tune_jobs.storage.location import StorageLocation, local_copy

FUSION, FITTED = "fusion.json", ("weights", "means", "deviations")
"""The file of a fusion, and what it keeps of that of each seed."""


def best_of_backbones(complete: Sequence[Complete]) -> list[Complete]:
    """The configuration with the best mean over seeds of each backbone, best first.

    Nothing if all are on one backbone, or the models of their task cannot be fused.
    """
    fusable = [one for one in complete if one.finalist.experiment.task.fused_by]
    if len({one.finalist.backbone for one in fusable}) < 2:
        return []
    ranked = sorted(fusable, key=lambda one: -mean_of(one.scores(SCORES), one.finalist.experiment.task))
    first = {one.finalist.backbone: one for one in reversed(ranked)}
    return [one for one in ranked if first[one.finalist.backbone] is one]


@dataclass(frozen=True)
class FusedRuns:
    """What `fuse` gives: the members' ``keys``, and their fusion on each seed."""

    keys: tuple[str, ...]
    by_seed: tuple[Fused, ...]

    def save(self, folder: Path, task: AnyTask) -> None:
        """Write it, evaluations of ``task``, into ``folder``, whole or not at all."""
        with replaced(folder) as made:
            made.mkdir(parents=True)
            for seed, one in enumerate(self.by_seed):
                task.save(made / f"{seed}.npz", one.scores)
            seeds = [
                {name: getattr(one.fusion, name) for name in FITTED} | {"crossed": one.crossed} for one in self.by_seed
            ]
            write_json(made / FUSION, {"members": self.keys, "seeds": seeds})


def fuse(members: Sequence[Complete], seeds: Sequence[int], device: str) -> FusedRuns:
    """Fuse the runs on ``seeds`` of ``members``, each on another backbone, seed by seed.

    The scores of a seed are by weights that were fitted to the other half of the people; the weights of its fusion, for
    a final fit, are fitted to all of them.
    """
    on = select_device(device)
    contexts = [context_of(one.finalist.on(seeds[0]), on) for one in members]
    found = []
    for runs in zip(*(one.runs(seeds) for one in members), strict=True):
        with ExitStack() as opened:
            loaded = [
                _loaded(experiment, state, context, opened)
                for (experiment, state), context in zip(runs, contexts, strict=True)
            ]
        first = contexts[0]
        answers = first.evaluator("val").answers(loaded, by=FusedBy.SCORE, objective=first.task.metrics.objective.name)
        found.append(cross_fitted(answers))
    return FusedRuns(tuple(one.finalist.key for one in members), tuple(found))


def fusion_of(complete: Sequence[Complete], folder: Path) -> list[Entrant]:
    """The row of the fusion in ``folder``, where ``FusedRuns`` were saved by `group_name`; nothing if there is none."""
    best = best_of_backbones(complete)
    where = folder / group_name(best) if best else folder
    if not (where / FUSION).exists():
        return []
    about, by_key = read_document(where / FUSION), {one.finalist.key: one for one in best}
    members = [by_key[key] for key in about["members"]]
    task = members[0].finalist.experiment.task
    scores = tuple(task.load(where / f"{seed}.npz") for seed in range(len(about["seeds"])))
    # The final fit is of the first seed, so it takes the weights of that one's runs.
    weights, means, deviations = (tuple(about["seeds"][0][name]) for name in FITTED)
    recipe = Recipe(tuple(one.finalist for one in members), fusion=ScoreFusion(weights, means, deviations))
    labels = " + ".join(one.finalist.name.replace(", ", " ") for one in members)
    return [entrant_of(f"{recipe.strategy}, by score of {labels}", recipe, scores, members)]


def _loaded(experiment: Experiment, state: StorageLocation, context: ExperimentContext, opened: ExitStack) -> LoadedRun:
    weights = load_tensors(opened.enter_context(local_copy(state)) / FINAL)
    model = restored(built(experiment, context), weights).eval()
    return LoadedRun(model, context.pixel_inputs, context)
