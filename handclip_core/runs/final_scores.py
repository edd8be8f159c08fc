"""What the finals measure of a run at its end: validation scores of its last weights, and of mixtures of them."""

from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path

from handclip_core.documents import read_document
from handclip_core.runs.drive import Drive, Report
from handclip_core.runs.experiment import assemble, context_of, score
from handclip_core.runs.run_folder import FINAL, write_json
from handclip_core.runs.soups import Ingredient, wise_ft_scores

FACTS, SCORES = "run.json", "scores.npz"


@dataclass(frozen=True)
class Facts:
    """What a finished run has to tell beside its scores.

    ``peak`` is the highest score of any unit, that of ``peak_unit``. ``train_s`` is the time of training ``images``
    images, validation not counted, and ``cpu_s`` that of the process on all its processors together; NaN if a part of
    the run is of a version that did not measure it.
    """

    manifest_hash: str
    peak: float
    peak_unit: int
    units: int
    images: int
    train_s: float
    params_trained: int
    cpu_s: float = nan


def read_facts(folder: Path) -> Facts:
    """The facts of a run that ``write_final_scores`` has measured."""
    return Facts(**read_document(folder / FACTS))


def wise_ft_file(alpha: float) -> str:
    """Name of the file of a run's scores if ``alpha`` of its weights is mixed with the untrained ones."""
    return f"wise-{alpha:g}.npz"


def write_final_scores(folder: Path, run: Drive, last: Report) -> None:
    """Score ``run``, whose last report was ``last``, on validation identities into its checkpoint ``folder``."""
    experiment, device = run.record.experiment, next(run.model.parameters()).device
    if experiment.part == "train_all":
        return  # a final fit, of which nobody is left to validate on
    context, task = context_of(experiment, device), experiment.task
    task.save(folder / SCORES, score(context, run.model, context.pixel_inputs, "val"))
    for alpha, scores in wise_ft_scores(Ingredient("", experiment, folder / FINAL), device=device).items():
        task.save(folder / wise_ft_file(alpha), scores)
    facts = Facts(
        manifest_hash=context.prepared.protocol.manifest_hash,
        peak=last.best[task.metrics.objective.name],
        peak_unit=int(last.best["unit"]),
        units=last.unit,
        images=last.images,
        train_s=sum(row["train_s"] for row in run.record.log),
        params_trained=assemble(experiment, context).params_trained,
        cpu_s=sum(row.get("cpu_s", nan) for row in run.record.log),
    )
    write_json(folder / FACTS, asdict(facts))
