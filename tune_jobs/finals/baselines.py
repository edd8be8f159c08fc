"""The baselines of pixels and gradients on validation identities: scored once, kept in the folder of the finals."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from handclip_core.devices import select_device
from handclip_core.documents import read_document
from handclip_core.errors import InputError
from handclip_core.evaluation.units import Evaluation
from handclip_core.runs.baselines import baseline_scores
from handclip_core.runs.experiment import Experiment, context_of
from handclip_core.runs.run_folder import write_json
from handclip_core.tasks import AnyTask

FOLDER, ABOUT = "baselines", "baselines.json"


@dataclass(frozen=True, eq=False)
class BaselineScores:
    """Validation scores of the baselines by name, and the reasons of those that do not fit the data."""

    scores: dict[str, Evaluation]
    failures: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path, manifest_hash: str, task: AnyTask) -> None:
        """Write them, evaluations of ``task``, into ``folder``; the file that vouches for the others comes last."""
        for name, found in self.scores.items():
            task.save(folder / f"{name}.npz", found)
        write_json(
            folder / ABOUT, {"manifest_hash": manifest_hash, "names": list(self.scores), "failures": self.failures}
        )


def kept_baselines(
    finals: Path, manifest_hash: str, task: AnyTask, score: Callable[[], BaselineScores]
) -> BaselineScores:
    """What the folder ``finals`` keeps for the data of ``manifest_hash``, or else what ``score`` gives, then kept.

    Nothing of a task without baselines.
    """
    if not task.baselines:
        return BaselineScores({})
    folder = finals / FOLDER
    about = read_document(folder / ABOUT) if (folder / ABOUT).exists() else {}
    # Another version may have more of them.
    if about.get("manifest_hash") != manifest_hash or {*about["names"], *about["failures"]} != {*task.baselines}:
        score().save(folder, manifest_hash, task)
        about = read_document(folder / ABOUT)
    return BaselineScores({name: task.load(folder / f"{name}.npz") for name in about["names"]}, about["failures"])


def score_baselines(example: Experiment, device: str) -> BaselineScores:
    """Every baseline on the validation identities, those with a fit fitted to the training images."""
    context = context_of(example, select_device(device))
    found = BaselineScores({})
    for name in example.task.baselines:
        try:
            found.scores[name] = baseline_scores(name, context, "val")
        except InputError as error:
            found.failures[name] = str(error)
    return found
