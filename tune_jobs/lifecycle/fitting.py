"""What a sweep's data and weights allow, looked at before Ray starts; and a node's caches, made before its trials."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from handclip_core.data.sources import PreparedData
from handclip_core.devices import select_device
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.paths import cache_root, output_folder
from handclip_core.runs.context import open_context
from handclip_core.strategies import ALL
from tune_jobs.config.backbones import READ_TEXT
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.summary import log
from tune_jobs.storage.location import BucketLocation

NEED_ASPECTS = tuple(kind.model_fields["name"].default for kind in ALL if kind.needs_aspects)
"""Names of the strategies that need images whose aspect is known."""


def fitted(settings: SweepSettings) -> SweepSettings:
    """``settings`` without the strategies that data or backbones cannot train; a line each says which and why.

    Raises InputError if the data, the weights or the storage cannot be used from here, or no strategy is left. What
    lies on the nodes of a cluster that is joined is left to them.
    """
    settings = _that_can_read(settings)
    if isinstance(settings.storage, Path):
        output_folder(settings.storage, option="storage")
    joins = bool(os.environ.get("RAY_ADDRESS"))
    if not joins:
        _refuse_unreadable(settings.backbones)
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
    return _without(settings, left_out)


def _without(settings: SweepSettings, left_out: Sequence[str]) -> SweepSettings:
    kept = [name for name in settings.strategies if name not in left_out]
    values = settings.model_dump(mode="json") | {"strategies": kept}
    return SweepSettings.parse(values, source=f"settings without {', '.join(left_out)}")


def warm_up(wanted: str, device: str) -> None:
    """Draw or check the data of a sweep, whose settings are given as JSON, and build the node's caches.

    So trials need not wait for each other. Raises InputError if the data or a bucket cannot be used from this node.
    """
    settings = SweepSettings.model_validate(json.loads(wanted))
    if isinstance(settings.storage, BucketLocation):
        settings.storage.check()
    for backbone in settings.backbones:
        _ = open_context(settings.data, backbone, select_device(device), settings.task).feature_inputs


def _that_can_read(settings: SweepSettings) -> SweepSettings:
    """``settings`` without the strategies that read texts, if every backbone is an image tower alone."""
    reading = [name for name in settings.strategies if name in READ_TEXT]
    towers = [one.name for one in settings.backbones if one.images_only]
    if not reading or not towers:
        return settings
    why = "an image tower has no text tower to read with"
    if len(towers) < len(settings.backbones):
        log(f"not tried on {', '.join(towers)}: {', '.join(reading)}, since {why}")
        return settings
    if len(reading) == len(settings.strategies):
        raise InputError(f"strategies: {', '.join(reading)}: {why} ({', '.join(towers)}); choose others")
    log(f"left out of the sweep: {', '.join(reading)}, since {why} ({', '.join(towers)})")
    return _without(settings, reading)


def _refuse_unreadable(backbones: Sequence[BackboneSettings]) -> None:
    """Raise InputError with a reason for each of the backbones that cannot be loaded here."""
    if tuple(backbones) == (BackboneSettings(),):  # ours is there, and open_clip takes seconds to import
        return
    from handclip_core.models.loading import load_backbone

    reasons = []
    for backbone in backbones:
        try:
            load_backbone(backbone)
        except InputError as error:
            reasons.append(str(error))
    if reasons:
        raise InputError("; ".join(reasons))
