"""What the documents print of the code."""

from pathlib import Path

import numpy as np
import pytest

from handclip_core.data.sources import DrawnData
from handclip_core.devices import select_device
from handclip_core.drawn import Details, Person, Shot
from handclip_core.drawn.pose import outfit
from handclip_core.drawn.seeds import stream
from handclip_core.models.backbone import BackboneSettings
from handclip_core.reports.plans import default_plans
from handclip_core.runs.context import open_context

DOCS = Path(__file__).parent.parent / "docs"


def noise(person: Person, aspect: str, *, shot: int, height_px: int, sitting: int) -> Shot:
    """An image that is of the right size and like no other: of the images, a plan depends on their number alone."""
    size = (height_px, height_px * 4 // 3, 3)
    pixels = stream("noise", person.index, aspect, shot).integers(0, 256, size, np.uint8)
    worn = outfit(person, aspect, shot)
    assert sitting == 0
    return Shot(pixels, Details(aspect, shot, worn, fingers_up=True, irregularities=False, seen=frozenset()))


def test_the_plans_in_the_documents_are_those_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path))
    monkeypatch.setattr("handclip_core.drawn.dataset.draw_image", noise)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # in this process, where an image is noise
    data = DrawnData(people=48, images_per_aspect=5, height_px=96)
    context = open_context(data, BackboneSettings(), select_device("cpu"))
    assert default_plans(context) in (DOCS / "strategies.md").read_text(encoding="utf-8")
