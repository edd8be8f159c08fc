"""What the documents print of the code."""

from pathlib import Path

from handclip_core.data.sources import DrawnData
from handclip_core.devices import select_device
from handclip_core.models.backbone import BackboneSettings
from handclip_core.reports.plans import default_plans
from handclip_core.runs.context import open_bench

DOCS = Path(__file__).parent.parent / "docs"


def test_the_plans_in_the_documents_are_those_of_the_code() -> None:
    data = DrawnData(people=48, images_per_aspect=5, height_px=96)
    bench = open_bench(data, BackboneSettings(), select_device("cpu"))
    assert default_plans(bench) in (DOCS / "strategies.md").read_text(encoding="utf-8")
