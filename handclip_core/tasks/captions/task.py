"""The settings of the task."""

from pathlib import Path
from typing import ClassVar, Literal

from handclip_core.data.leaks import check_leaks
from handclip_core.data.manifest import Prepared
from handclip_core.data.own_rows import RowFormat
from handclip_core.data.sources import DrawnData, PreparedData, open_data
from handclip_core.errors import InputError
from handclip_core.evaluation.metrics import Metrics
from handclip_core.evaluation.units import Evaluation
from handclip_core.tasks.base import Task
from handclip_core.tasks.captions.data import CaptionData
from handclip_core.tasks.captions.prepare import prepare_captions
from handclip_core.tasks.captions.readers import Columns
from handclip_core.tasks.captions.scores import METRICS, CaptionScores, load_caption_scores, save_caption_scores
from handclip_core.tasks.captions.table import read_pairs


def _prepared(root: Path, out: Path, table: Path, columns: tuple[str, ...]) -> Prepared:
    split = SPLIT if SPLIT in columns else None
    return prepare_captions(root, out, annotations=table, columns=Columns("path", "caption", split), skip_bad=False)


SPLIT = "split"
ROWS = RowFormat(needed=("path", "caption"), optional=(SPLIT,), prepare=_prepared)


class Captions(Task):
    """Which image does a text mean, and which text an image? Judged by how often the first answer is right.

    Data are those of ``prepare captions``; drawn hands have captions of what is seen, prepared ones of what their
    manifest says.
    """

    name: Literal["captions"] = "captions"
    """Which task this is."""
    clusters: ClassVar[str] = "groups of images"
    averaged: ClassVar[str] = "queries of both directions"
    reads_text: ClassVar[bool] = True
    objective: Literal["recall1", "recall5", "map", "text_to_image_recall1", "image_to_text_recall1"] = "recall1"
    """What trials are ranked by: without a direction before it, the mean of both."""

    @property
    def metrics(self) -> Metrics:
        """The objective first."""
        return Metrics(tuple(sorted(METRICS, key=lambda metric: metric.name != self.objective)))

    def open(self, data: DrawnData | PreparedData, *, cache: Path) -> CaptionData:
        """The prepared data set; drawn hands are drawn if need be."""
        if data.has_galleries:
            raise InputError(
                "data: aspects, gallery, enrolled and distance are for the task identities; leave them out"
            )
        prepared = open_data(data, cache=cache, form=ROWS)
        check_leaks(prepared)
        return CaptionData(prepared, read_pairs(prepared))

    def save(self, path: Path, evaluation: Evaluation) -> None:
        """Write the results of all queries to an ``.npz`` file."""
        assert isinstance(evaluation, CaptionScores), "an evaluation of this task"
        save_caption_scores(path, evaluation)

    def load(self, path: Path) -> CaptionScores:
        """Read what ``save`` wrote."""
        return load_caption_scores(path)
