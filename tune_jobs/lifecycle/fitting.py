"""What a sweep's data and weights allow, looked at before Ray starts; and a node's caches, made before its trials."""

import os
from pathlib import Path

from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.devices import select_device
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.paths import cache_root, output_folder
from handclip_core.runs.context import IDENTITIES, open_context
from handclip_core.strategies import ALL
from handclip_core.tasks import AnyTask
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.summary import log
from tune_jobs.storage.location import BucketLocation, StorageLocation

NEED_ASPECTS = tuple(kind.model_fields["name"].default for kind in ALL if kind.needs_aspects)
"""Names of the strategies that need images whose aspect is known."""


def fitted(settings: SweepSettings) -> SweepSettings:
    """``settings`` without the strategies that the data cannot train, which one line names.

    Raises InputError if the data, the weights or the storage cannot be used from here, or no strategy is left. What
    lies on the nodes of a cluster that is joined is left to them.
    """
    if isinstance(settings.storage, Path):
        output_folder(settings.storage, option="storage")
    joins = bool(os.environ.get("RAY_ADDRESS"))
    if not joins and settings.backbone != BackboneSettings():  # ours is there, and open_clip takes seconds to import
        from handclip_core.models.loading import load_backbone

        load_backbone(settings.backbone)
    data = settings.data
    if not isinstance(data, PreparedData) or (joins and not data.folder.exists()):
        return settings
    dataset = settings.task.open(data, cache=cache_root())
    left_out = [name for name in settings.strategies if name in NEED_ASPECTS]
    if not left_out or dataset.trains_aspects:
        return settings
    kept = [name for name in settings.strategies if name not in left_out]
    why = "no training image has a known aspect (`prepare folder --table ... --aspect-column` reads them)"
    if not kept:
        raise InputError(f"strategies: {', '.join(left_out)}: {why}; choose others")
    log(f"left out of the sweep: {', '.join(left_out)}, since {why}")
    values = settings.model_dump(mode="json") | {"strategies": kept}
    return SweepSettings.parse(values, source=f"settings without {', '.join(left_out)}")


def warm_up(
    data: DrawnData | PreparedData,
    backbone: BackboneSettings,
    device: str,
    storage: StorageLocation,
    task: AnyTask = IDENTITIES,
) -> None:
    """Draw or check the data and build the node's caches, so that trials need not wait for each other.

    Raises InputError if the data or a bucket cannot be used from this node.
    """
    if isinstance(storage, BucketLocation):
        storage.check()
    _ = open_context(data, backbone, select_device(device), task).feature_inputs
