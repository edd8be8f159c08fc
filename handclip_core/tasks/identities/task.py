"""The settings of the task."""

from pathlib import Path
from typing import ClassVar, Literal

from handclip_core.data.folder import prepare_folder
from handclip_core.data.leaks import check_leaks
from handclip_core.data.manifest import Prepared
from handclip_core.data.own_rows import RowFormat
from handclip_core.data.sources import DrawnData, PreparedData, open_data
from handclip_core.evaluation.baselines import BASELINES
from handclip_core.evaluation.joined import FusedBy
from handclip_core.evaluation.metrics import METRICS, Metrics
from handclip_core.evaluation.protocol import ProtocolScores
from handclip_core.evaluation.storage import load_scores, save_scores
from handclip_core.evaluation.units import Evaluation
from handclip_core.tasks.base import LabelledTask
from handclip_core.tasks.galleries import used_aspects
from handclip_core.tasks.identities.data import IdentityData


def _prepared(root: Path, out: Path, table: Path, columns: tuple[str, ...]) -> Prepared:
    aspect, session = (name if name in columns else None for name in OPTIONAL)
    return prepare_folder(root, out, table=table, aspect_column=aspect, session_column=session)


OPTIONAL = ("aspect", "session")
ROWS = RowFormat(needed=("path", "identity"), optional=OPTIONAL, prepare=_prepared)


class Identities(LabelledTask):
    """Who is it? Queries are searched in galleries, and judged by mAP unless the settings say otherwise."""

    name: Literal["identities"] = "identities"
    """Which task this is."""
    clusters: ClassVar[str] = "identities"
    averaged: ClassVar[str] = "aspects, draws"
    has_galleries: ClassVar[bool] = True
    fused_by: ClassVar[tuple[FusedBy, ...]] = tuple(FusedBy)
    shares_of: ClassVar[FusedBy | None] = FusedBy.FEATURE
    objective: Literal["map", "map_trapezoid", "minp", "cmc1", "cmc5", "cmc10"] = "map"
    """What trials are ranked by, and a run's best unit: a figure of the mean ranking."""
    baselines: ClassVar[tuple[str, ...]] = tuple(BASELINES)

    @property
    def metrics(self) -> Metrics:
        """The objective first."""
        return Metrics(tuple(sorted(METRICS, key=lambda metric: metric.name != self.objective)))

    def open(self, data: DrawnData | PreparedData, *, cache: Path) -> IdentityData:
        """The prepared data set; drawn hands are drawn if need be."""
        prepared = open_data(data, cache=cache, form=ROWS)
        check_leaks(prepared)
        return IdentityData(
            prepared,
            aspects=used_aspects(prepared, data.aspects),
            gallery=data.gallery,
            enrolled=data.enrolled,
            distance=data.distance,
        )

    def save(self, path: Path, evaluation: Evaluation) -> None:
        """Write all single query results to an ``.npz`` file."""
        assert isinstance(evaluation, ProtocolScores), "an evaluation of this task"
        save_scores(path, evaluation)

    def load(self, path: Path) -> ProtocolScores:
        """Read what ``save`` wrote."""
        return load_scores(path)
