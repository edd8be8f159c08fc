"""The settings of the task."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator

from handclip_core.data.leaks import check_leaks
from handclip_core.data.manifest import Prepared
from handclip_core.data.own_rows import RowFormat
from handclip_core.data.sources import DrawnData, PreparedData, open_data
from handclip_core.errors import InputError
from handclip_core.evaluation.joined import FusedBy
from handclip_core.evaluation.metrics import Metrics
from handclip_core.evaluation.units import Evaluation
from handclip_core.tasks.base import LabelledTask
from handclip_core.tasks.classes.data import ClassData, read_class_data
from handclip_core.tasks.classes.names import checked_templates, read_templates
from handclip_core.tasks.classes.prepare import Columns, prepare_classes
from handclip_core.tasks.classes.scores import METRICS, ClassScores, load_class_scores, save_class_scores


def _prepared(root: Path, out: Path, table: Path, columns: tuple[str, ...]) -> Prepared:
    split, group = (name if name in columns else None for name in OPTIONAL)
    return prepare_classes(root, out, table=table, columns=Columns(split=split, group=group), skip_bad=False)


OPTIONAL = ("split", "group")
ROWS = RowFormat(needed=("path", "class"), optional=OPTIONAL, prepare=_prepared)


class Classes(LabelledTask):
    """Which class? The head is judged by its right answers.

    It begins as the zero-shot classifier where the neck begins by leaving CLIP's embedding as it is (``none`` and
    ``linear``).

    Data are those of ``prepare classes``; drawn and prepared hands have their aspect for a class,
    of backs with nail polish or without.
    """

    name: Literal["classes"] = "classes"
    """Which task this is."""
    clusters: ClassVar[str] = "groups of images"
    averaged: ClassVar[str] = "images"
    reads_text: ClassVar[bool] = True
    fused_by: ClassVar[tuple[FusedBy, ...]] = (FusedBy.SCORE,)
    shares_of: ClassVar[FusedBy | None] = FusedBy.SCORE
    objective: Literal["accuracy", "macro_f1"] = "accuracy"
    """What trials are ranked by: the share of right answers, or the mean of F1 over classes."""
    templates: Annotated[tuple[str, ...], BeforeValidator(read_templates), AfterValidator(checked_templates)] = ()
    """Sentences of your own with ``{}`` for the name of a class, or the name of a text file with one a line. They stand
    for the set ``many`` of the strategies' ``templates``, and judge the tuned towers' zero-shot accuracy."""

    @property
    def metrics(self) -> Metrics:
        """The objective first."""
        return Metrics(tuple(sorted(METRICS, key=lambda metric: metric.name != self.objective)))

    def open(self, data: DrawnData | PreparedData, *, cache: Path) -> ClassData:
        """The prepared data set; drawn hands are drawn if need be."""
        if data.has_galleries:
            raise InputError(
                "data: aspects, gallery, enrolled and distance are for the task identities; leave them out"
            )
        prepared = open_data(data, cache=cache, form=ROWS)
        check_leaks(prepared)
        return read_class_data(prepared, templates=self.templates)

    def save(self, path: Path, evaluation: Evaluation) -> None:
        """Write the probabilities of all images to an ``.npz`` file."""
        assert isinstance(evaluation, ClassScores), "an evaluation of this task"
        save_class_scores(path, evaluation)

    def load(self, path: Path) -> ClassScores:
        """Read what ``save`` wrote."""
        return load_class_scores(path)
