"""What a task is: it opens data, says what is trained on, and judges what a model makes of images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.config import Config
from handclip_core.data.inputs import Inputs
from handclip_core.data.manifest import Prepared
from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.data.training import Part, ReadTexts, TrainingData
from handclip_core.evaluation.embed import embed
from handclip_core.evaluation.fusion import Search
from handclip_core.evaluation.generic import PROMPTS, agreement, similarities
from handclip_core.evaluation.joined import FusedBy
from handclip_core.evaluation.metrics import Metrics
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.hand_model import HandModel
from handclip_core.tasks.answers import Answers, Loaded
from handclip_core.types import ASPECT_INDEX, Aspect

if TYPE_CHECKING:
    from handclip_core.tasks.galleries import GalleryData

Split = Literal["val", "test"]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Towers:
    """The pretrained towers on their ``device``."""

    projected: Callable[[Rows], NDArray[np.float32]]
    """From training or validation rows of the manifest [n] to their projected embeddings [n, D]."""
    read: Callable[[Sequence[str]], ReadTexts]
    """From texts [T] to their embeddings."""
    device: torch.device


class Evaluator(ABC):
    """Judges models on one split of a data set."""

    def __init__(self, dataset: "Dataset", rows: Rows, towers: Towers) -> None:
        """``rows`` are the manifest rows of the split's images, ascending."""
        self.dataset, self.rows, self.towers = dataset, rows, towers

    @abstractmethod
    def evaluate(self, model: HandModel, inputs: Inputs) -> Evaluation:
        """How good ``model`` is; it ends in evaluation mode. Several processes share the work, and all get the
        result.
        """

    def validate(self, model: HandModel, inputs: Inputs) -> dict[str, float]:
        """Everything that is logged of ``model`` at a unit of its run, by name: the figures of ``evaluate`` and
        more.
        """
        return self.evaluate(model, inputs).metrics

    def embedded(self, model: HandModel, inputs: Inputs, *, unit: bool = True) -> Tensor:
        """Embeddings [n, W] of ``rows`` [n], of length one if ``unit``, on the CPU."""
        aspects = self.dataset.aspect_indices
        return embed(model, inputs, self.rows, aspects=aspects, device=self.towers.device, unit=unit)

    def generic_retention(self, projected: Tensor, texts: Tensor | None = None) -> float:
        """How much of the order in which the pretrained towers put generic prompts is left, the mean over ``rows`` [n].

        ``projected`` [n, D] are CLIP's embeddings of the images by a fine-tuned tower, ``texts`` those of PROMPTS, if
        another tower than the pretrained one reads them.
        """
        before, read = self._generic
        after = similarities(projected, read if texts is None else texts)
        return float(agreement(before, after).mean())

    @cached_property
    def _generic(self) -> tuple[Tensor, Tensor]:
        """Similarities [n, T] of the pretrained towers, and their embeddings of PROMPTS [T, D]."""
        read = self.towers.read(PROMPTS).embedding.cpu()
        return similarities(Tensor(self.towers.projected(self.rows)), read), read

    def searches(self, aspect: Aspect) -> Sequence[Search]:
        """What a model may be calibrated on, see ``HandModel.calibrate``; none in tasks without galleries."""
        del aspect
        return ()

    def scores_of(self, vectors: NDArray[Any] | Tensor) -> Evaluation:
        """How good ``vectors`` [n, D] of ``rows`` are, of whatever made them; in tasks that name baselines."""
        raise NotImplementedError

    def answers(self, models: Sequence[Loaded], *, by: FusedBy, objective: str) -> Answers:
        """What ``models`` answer together, fused ``by`` a way of the task's, with weights fitted for ``objective``."""
        raise NotImplementedError

    @property
    def kept(self) -> Mapping[str, Sequence[int]]:
        """Manifest rows whose embeddings a finished run keeps, by the name of the file."""
        return {"embeddings.npy": self.rows.tolist()}


class Dataset(ABC):
    """Data opened for a task, with the ``prepared`` manifest. Nothing in it is ever changed."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared

    @abstractmethod
    def rows(self, split: Split) -> Rows:
        """Every manifest row that the evaluation of ``split`` uses, ascending."""

    @abstractmethod
    def training_data(self, part: Part, towers: Towers) -> TrainingData:
        """What strategies see: training rows and labels."""

    @abstractmethod
    def evaluator(self, split: Split, towers: Towers) -> Evaluator:
        """What judges models on ``split``."""

    @property
    def galleries(self) -> "GalleryData | None":
        """The same data, if their identities are searched for in galleries."""
        return None

    @property
    def asked(self) -> Mapping[str, object]:
        """What of ``data`` decides which questions are asked of a split, by the names of the settings."""
        return {}

    @property
    def trains_aspects(self) -> bool:
        """Whether there are training images of known aspect, for the strategies that need them."""
        return False

    @cached_property
    def aspect_indices(self) -> Rows:
        """The aspect of every manifest row, by ASPECT_INDEX."""
        return np.array([ASPECT_INDEX[aspect] for aspect in self.prepared.manifest["aspect"]], np.int64)

    @cached_property
    def identities(self) -> NDArray[np.str_]:
        """The identity of every manifest row: what belongs together, on one side of the split."""
        return self.prepared.manifest["identity"].to_numpy(dtype=str)


class Task(Config, ABC):
    """What labels mean and how an answer is scored. Subclasses are frozen settings that serialise to JSON."""

    name: str
    """Which task this is."""

    clusters: ClassVar[str]
    """What is resampled for intervals, in the plural."""
    averaged: ClassVar[str]
    """What the figures are means over."""
    reads_text: ClassVar[bool] = False
    """Whether CLIP as it is reads texts in this task, so that an image tower alone does not do."""
    fused_by: ClassVar[tuple[FusedBy, ...]] = ()
    """How several models answer together, the usual way first; nothing if they cannot."""
    shares_of: ClassVar[FusedBy | None] = None
    """The way whose weights are plain shares, which may be given; those of the others are fitted."""
    has_galleries: ClassVar[bool] = False
    """Whether identities are searched in galleries."""
    baselines: ClassVar[tuple[str, ...]] = ()
    """Names of the baselines of pixels and gradients that a model has to beat."""

    @property
    @abstractmethod
    def metrics(self) -> Metrics:
        """What is measured; the first is the objective."""

    @abstractmethod
    def open(self, data: DrawnData | PreparedData, *, cache: Path) -> Dataset:
        """The data that ``data`` name, checked for leaks; raises InputError if they cannot be used for this task."""

    @abstractmethod
    def save(self, path: Path, evaluation: Evaluation) -> None:
        """Write an evaluation of this task to a file, whole or not at all."""

    @abstractmethod
    def load(self, path: Path) -> Evaluation:
        """Read what ``save`` wrote; raises InputError if the file is missing or is something else."""


class LabelledTask(Task, ABC):
    """A task whose training images have classes, which strategies with an identity head learn to tell apart."""
