"""Ranges that several strategies share.

Rates of the image tower are for one of ViT-B/16's size; a smaller one gets a higher rate, see ``strategies.rates``.
"""

from itertools import permutations

from handclip_core.data.augment import AugmentSettings
from handclip_core.engine.phase import Optim, Schedule
from handclip_core.losses.settings import (
    IdentityKind,
    IdentitySettings,
    Losses,
)
from handclip_core.models.lora import LoraTargets
from handclip_core.models.metric import DISCRIMINATING, MetricKind, MetricSettings
from handclip_core.models.neck import READS_BLOCKS, EmbeddingAt, NeckInput, NeckKind, NeckSettings
from handclip_core.models.readout import Pooling, ReadoutSettings
from handclip_core.types import HAND_ASPECTS
from search_spaces.suggest import (
    Choice,
    Float,
    LogFloat,
    LogInt,
    Nested,
    Range,
    When,
)

SMOOTHED = Nested(IdentitySettings, smoothing=Float(0.0, 0.3))
MARGINS = (IdentityKind.ARCFACE, IdentityKind.COSFACE)
LOSSES = Nested(
    Losses,
    identity=Nested(
        IdentitySettings,
        kind=Choice(tuple(IdentityKind)),
        smoothing=Float(0.0, 0.3),
        margin=When("kind", MARGINS, Float(0.1, 0.5)),
        scale=When("kind", MARGINS, LogFloat(8.0, 64.0)),
    ),
)
FITTED = tuple(kind for kind in MetricKind if kind is not MetricKind.NONE)
METRIC = Nested(
    MetricSettings,
    kind=Choice((MetricKind.NONE, MetricKind.WCCN, *DISCRIMINATING)),
    shrinkage=When("kind", FITTED, LogFloat(1e-3, 0.9)),
    dim=When("kind", DISCRIMINATING, Choice((None, 32, 64))),
)
DEPTHS = (
    (0.15,),
    (0.3,),
    (0.45,),
    (0.6,),
    (0.75,),
    (0.9,),
    (1.0,),
    (0.3, 0.6),
    (0.3, 0.9),
    (0.6, 0.9),
    (0.3, 0.6, 0.9),
    (0.15, 0.3, 0.6, 0.8),
)
READOUT = Nested(
    ReadoutSettings,
    depths=Choice(DEPTHS),
    # The class token is left out: a ResNet has none, and `attention` asks for what it sees.
    pool=Choice((Pooling.MEAN, Pooling.GEM, Pooling.ATTENTION, Pooling.GRID, Pooling.PYRAMID)),
    grid=When("pool", (Pooling.GRID, Pooling.PYRAMID), Choice((2, 3, 4, 6))),
    power=When("pool", (Pooling.GEM,), LogFloat(1.5, 10.0)),
)
VECTORS = (NeckInput.PROJECTED, NeckInput.TRUNK, NeckInput.BOTH)
NECKS = (NeckKind.NONE, NeckKind.BN, NeckKind.LINEAR)
ORDER = Choice(tuple(permutations(HAND_ASPECTS)))
TOWER_LR = LogFloat(1e-6, 1e-4)
MODULE_LR = LogFloat(1e-4, 1e-2)
PROJECTION_LR = LogFloat(1e-5, 1e-2)
LAYER_DECAY = Float(0.4, 1.0)
HEAD_LR_SCALE = LogFloat(1.0, 300.0)
AUGMENT = Nested(
    AugmentSettings,
    rotation_deg=Float(0.0, 30.0),
    scale=Float(0.0, 0.25),
    shift=Float(0.0, 0.12),
    brightness=Float(0.0, 0.4),
    contrast=Float(0.0, 0.4),
    colour=Float(0.0, 0.4),
    blur=Float(0.0, 0.5),
    erase=Float(0.0, 0.6),
    flip=Choice((False, True)),
)

TEXT_RATES = Choice((0.0, 0.1, 0.3, 1.0))
VISION_RATES = When("text", (0.1, 0.3, 1.0), Choice((0.0, 0.1, 1.0)))
"""Of the image tower where both are trained; one tower at least trains."""
CHANGED = When("vision", (0.1, 1.0), AUGMENT)
"""A frozen image tower reads every image once, unless they change."""


def tower() -> dict[str, Range | Nested | When]:
    """What is searched wherever the image tower itself is trained."""
    return {
        "optim": optim(TOWER_LR),
        "layer_decay": LAYER_DECAY,
        "head_lr_scale": HEAD_LR_SCALE,
        "neck": neck(*NECKS, sources=(*VECTORS, NeckInput.BLOCKS)),
        # What lies behind a block that is read gets no gradient: with others frozen, nothing might be left.
        "frozen_blocks": When("neck.source", VECTORS, Choice((0, 1, 2, 4))),
        "augment": AUGMENT,
    }


def optim(lr: LogFloat) -> Nested:
    """Of an optimiser, with rates of ``lr``."""
    return Nested(
        Optim,
        lr=lr,
        weight_decay=LogFloat(1e-4, 0.3),
        batch_size=Choice((16, 32, 64)),
        schedule=Choice(tuple(Schedule)),
        warmup=Float(0.0, 0.3),
        ema=Choice((0.0, 0.9, 0.99)),
    )


LORA_ON_BOTH: dict[str, Range | Nested | When] = {
    "rank": LogInt(2, 32),
    "alpha": LogFloat(1.0, 64.0),
    "dropout": Float(0.0, 0.3),
    "targets": Choice((LoraTargets.ATTENTION, LoraTargets.BOTH)),
}
"""Of low-rank updates of an image and a text tower."""
PROJECTION_PULL = LogFloat(1e-4, 10.0)
"""Strength of the pull to pretrained projections."""


def large_batches(lr: LogFloat) -> Nested:
    """Of an optimiser, with rates of ``lr``, where images and texts of a batch are compared."""
    return Nested(
        Optim,
        lr=lr,
        batch_size=Choice((32, 64, 128)),
        schedule=Choice((Schedule.CONSTANT, Schedule.COSINE)),
        warmup=Float(0.0, 0.3),
    )


def neck(*kinds: NeckKind, embedding: bool = True, sources: tuple[NeckInput, ...] = VECTORS) -> Nested:
    """Of a neck of some ``kinds`` that reads any of ``sources``, and of its metric."""
    layers = tuple(kind for kind in NeckKind if kind is not NeckKind.NONE)
    at = {"embedding": When("kind", layers, Choice(tuple(EmbeddingAt)))} if embedding else {}
    if NeckInput.BLOCKS in sources:
        at["readout"] = When("source", READS_BLOCKS, READOUT)
    return Nested(NeckSettings, kind=Choice(kinds), source=Choice(sources), **at, metric=METRIC)
