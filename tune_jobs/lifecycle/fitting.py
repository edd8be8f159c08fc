"""What a sweep's data and weights allow, looked at before Ray starts; and a node's caches, made before its trials."""

import json
import os
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import torch

from handclip_core.data.sources import PreparedData
from handclip_core.devices import Device, select_device
from handclip_core.errors import InputError
from handclip_core.models.backbone import RANDOM, BackboneSettings, load_backbone
from handclip_core.models.lora import LoraTargets, possible_targets
from handclip_core.paths import cache_root, output_folder
from handclip_core.runs.baselines import score_baselines
from handclip_core.runs.context import open_context
from handclip_core.runs.experiment import Experiment
from handclip_core.scratch import remove_left
from handclip_core.strategies import ALL
from handclip_core.warm_python import call_warm
from search_spaces.arms import arm_of, under
from search_spaces.narrowing import Narrowing
from tune_jobs.config.backbones import READ_TEXT, labels
from tune_jobs.config.settings import SweepSettings
from tune_jobs.lifecycle.trackers import refuse_missing
from tune_jobs.reporting.summary import log
from tune_jobs.storage.location import BucketLocation

NEED_ASPECTS = tuple(kind.model_fields["name"].default for kind in ALL if kind.needs_aspects)
"""Names of the strategies that need images whose aspect is known."""
LORA, TARGETS = "lora", "targets"
"""The strategy whose maps some backbones have only in part, and the field that says which."""
Targets = dict[BackboneSettings, tuple[LoraTargets, ...]]
LEAST_URGENT = 19
"""Of the levels of priority that a process may take on, the lowest."""


def fitted(settings: SweepSettings) -> SweepSettings:
    """``settings`` without what data or backbones cannot train, strategies or targets of LoRA; a line each says why.

    Raises InputError if the data, the weights or the storage cannot be used from here, or no strategy is left. What
    lies on the nodes of a cluster that is joined is left to them.
    """
    refuse_missing(settings.tracking)
    settings = _that_can_read(settings)
    if isinstance(settings.storage, Path):
        output_folder(settings.storage, option="storage")
    joins = bool(os.environ.get("RAY_ADDRESS"))
    settings = _with_lora_targets(settings, _looked_at(settings, joins=joins))
    data = settings.data
    if not isinstance(data, PreparedData) or (joins and not data.folder.exists()):
        return settings
    dataset = settings.task.open(data, cache=cache_root())
    if dataset.trains_aspects:
        return settings
    why = "no training image has a known aspect (`prepare folder --table ... --aspect-column` reads them)"
    return _without(settings, NEED_ASPECTS, why)


def _without(settings: SweepSettings, names: Sequence[str], why: str) -> SweepSettings:
    """``settings`` without the strategies ``names``; a line says which and why. InputError if no other is left."""
    left_out = [name for name in settings.strategies if name in names]
    kept = [name for name in settings.strategies if name not in names]
    if not kept:
        raise InputError(f"strategies: {', '.join(left_out)}: {why}; choose others")
    if not left_out:
        return settings
    log(f"left out of the sweep: {', '.join(left_out)}, since {why}")
    values = settings.model_dump(mode="json") | {"strategies": kept}
    return SweepSettings.parse(values, source=f"settings without {', '.join(left_out)}")


def targets_in(backbone: str) -> list[str]:
    """The targets of LoRA that a backbone, given as JSON, has; raises InputError if it cannot be loaded."""
    loaded = load_backbone(BackboneSettings.model_validate_json(backbone))
    return [str(one) for one in possible_targets(loaded)]


def warm_up(wanted: str, device: str) -> None:
    """Draw or check the data of a sweep, whose settings are given as JSON, and build the node's caches.

    So trials need not wait for each other. Raises InputError if the data or a bucket cannot be used from this node.
    """
    remove_left()
    settings = SweepSettings.model_validate(json.loads(wanted))
    if isinstance(settings.storage, BucketLocation):
        settings.storage.check()
    for backbone in settings.backbones:
        # Looking at these inputs writes them into the cache.
        _ = open_context(settings.data, backbone, select_device(device), settings.task).feature_inputs


def score_baselines_beside(example: str, device: str) -> None:
    """Score the baselines of an experiment, given as JSON, on what the trials leave of the processors, into the cache.

    Else the sweep's end would wait for them.
    """
    del device  # pixels and gradients are described on the CPU
    os.nice(LEAST_URGENT)
    torch.set_num_threads(1)
    # The end of the sweep scores what is not there by then, and says why if it cannot.
    with (
        suppress(Exception),
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        score_baselines(Experiment.model_validate_json(example), Device.CPU)


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
    return _without(settings, reading, f"{why} ({', '.join(towers)})")


def _looked_at(settings: SweepSettings, *, joins: bool) -> Targets:
    """The targets that LoRA finds in backbones other than ours, which has all, as far as that can be told from here.

    Raises InputError with a reason for each of the backbones that cannot be loaded here, unless the sweep ``joins`` a
    cluster, whose nodes may have weights of their own.
    """
    others = [one for one in settings.backbones if one != BackboneSettings()]
    if not others or (joins and LORA not in settings.strategies):  # open_clip takes seconds to import
        return {}
    found, reasons = {}, []
    for backbone in others:
        try:
            # On a cluster the weights may lie on its nodes alone; which maps there are needs none.
            looked_at = backbone.model_copy(update={"pretrained": RANDOM}) if joins else backbone
            # The workers' server has imported what this needs, and this process has no use for it.
            names = call_warm(targets_in, looked_at.model_dump_json())
            found[backbone] = tuple(LoraTargets(name) for name in names)
        except InputError as error:
            reasons.append(str(error))
    if reasons and not joins:
        raise InputError("; ".join(reasons))
    return found


def _with_lora_targets(settings: SweepSettings, possible: Targets) -> SweepSettings:
    """``settings`` with targets of LoRA narrowed to the ``possible`` ones of each backbone; a line each says which."""
    if LORA not in settings.strategies:
        return settings
    ranges, named = settings.search.ranges, labels(settings.backbones)
    for backbone, targets in possible.items():
        name = under(arm_of(LORA, named[backbone]), f"{LORA}/{TARGETS}")
        key = Narrowing(ranges).key(name)
        wanted = [str(one) for one in (LoraTargets if key is None else ranges[key])]
        missing = [one for one in wanted if one not in targets]
        if missing == wanted:
            raise InputError(
                f"strategies: {LORA}: {backbone.name} has no maps of {', '.join(missing)} that it can adapt; "
                + (f"{name} can be {', '.join(targets)}" if targets else f"leave out {LORA} or the backbone")
            )
        if missing:
            log(f"not tried on {backbone.name}: {LORA} with {TARGETS} {', '.join(missing)}, of which it has no maps")
            ranges = {**ranges, name: tuple(one for one in wanted if one in targets)}
    if ranges == settings.search.ranges:
        return settings
    values = settings.model_dump(mode="json")
    values["search"]["ranges"] = ranges
    return SweepSettings.parse(values, source=f"settings with the targets of {LORA} that there are")
