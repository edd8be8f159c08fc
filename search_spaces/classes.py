"""What is searched for each strategy where the task is ``classes``, side by side."""

from handclip_core.losses.matching_settings import MatchingSettings
from handclip_core.losses.settings import Losses
from handclip_core.models.adapters import Place
from handclip_core.models.lora import LoraTargets
from handclip_core.models.neck import NeckKind, NeckSettings
from handclip_core.strategies import (
    Adapters,
    ClipLora,
    Full,
    Joint,
    LinearProbe,
    Lora,
    ProLip,
    Strategy,
    TwoTower,
    ZeroShot,
)
from handclip_core.strategies.dual.base import ClassLoss
from handclip_core.types import Templates
from search_spaces.ranges import (
    AUGMENT,
    CHANGED,
    HEAD_LR_SCALE,
    LAYER_DECAY,
    LORA_ON_BOTH,
    MODULE_LR,
    PROJECTION_LR,
    PROJECTION_PULL,
    SMOOTHED,
    TEXT_RATES,
    TOWER_LR,
    VISION_RATES,
    large_batches,
    optim,
)
from search_spaces.spaces import Space
from search_spaces.suggest import Choice, Float, LogFloat, LogInt, Nested, Range, TrialLike, When, suggest

TEMPLATE = Choice(tuple(Templates))
LOSSES = Nested(Losses, identity=SMOOTHED)


def tower() -> dict[str, Range | Nested | When]:
    """What is searched wherever the image tower itself is trained; the head begins as the zero-shot classifier."""
    return {
        "templates": TEMPLATE,
        "optim": optim(TOWER_LR),
        "layer_decay": LAYER_DECAY,
        "head_lr_scale": HEAD_LR_SCALE,
        "frozen_blocks": Choice((0, 1, 2, 4)),
        "losses": LOSSES,
        "augment": AUGMENT,
    }


def modules() -> dict[str, Range | Nested | When]:
    """What is searched wherever something is added to the frozen tower."""
    neck = Nested(NeckSettings, kind=Choice((NeckKind.NONE, NeckKind.BN)))
    return {
        "templates": TEMPLATE,
        "optim": optim(MODULE_LR),
        "head_lr_scale": HEAD_LR_SCALE,
        "neck": neck,
        "losses": LOSSES,
        "augment": AUGMENT,
    }


def towers() -> dict[str, Range | Nested | When]:
    """What is searched wherever the text tower is trained, whose reading of the names is the classifier."""
    return {
        "templates": TEMPLATE,
        "class_loss": Choice(tuple(ClassLoss)),
        "losses": Nested(MatchingSettings, learn_temperature=Choice((False, True))),
        "text": TEXT_RATES,
        "vision": VISION_RATES,
    }


def zero_shot(trial: TrialLike) -> Strategy:
    """The sentences around the names."""
    return suggest(trial, ZeroShot, prefix="zero_shot", templates=TEMPLATE)


def linear_probe(trial: TrialLike) -> Strategy:
    """Sentences, rates, smoothing, and fine-tuning after the probe."""
    return suggest(
        trial,
        LinearProbe,
        prefix="linear_probe",
        templates=TEMPLATE,
        optim=optim(LogFloat(1e-4, 1e-1)),
        losses=LOSSES,
        finetune_share=Choice((0.0, 0.5)),
        finetune_lr=When("finetune_share", (0.5,), TOWER_LR),
    )


def full(trial: TrialLike) -> Strategy:
    """Sentences, rates of tower and head, their decay by depth, what stays frozen, smoothing and augmentation."""
    return suggest(trial, Full, prefix="full", **tower())


def joint(trial: TrialLike) -> Strategy:
    """The same as ``full``; what differs is that every class is shown equally often."""
    return suggest(trial, Joint, prefix="joint", **tower())


def adapters(trial: TrialLike) -> Strategy:
    """Width and place of the bottlenecks beside what all modules have."""
    return suggest(trial, Adapters, prefix="adapters", width=LogInt(4, 256), place=Choice(tuple(Place)), **modules())


def lora(trial: TrialLike) -> Strategy:
    """Rank, strength, dropout and place of the updates beside what all modules have."""
    return suggest(
        trial,
        Lora,
        prefix="lora",
        rank=LogInt(2, 64),
        alpha=LogFloat(4.0, 128.0),
        dropout=Float(0.0, 0.3),
        targets=Choice(tuple(LoraTargets)),
        last_blocks=Choice((None, 2, 4)),
        **modules(),
    )


def two_tower(trial: TrialLike) -> Strategy:
    """Rates, a pull to the pretrained weights, and augmentation beside what all with a text tower have."""
    return suggest(
        trial,
        TwoTower,
        prefix="two_tower",
        optim=large_batches(TOWER_LR),
        pull=Choice((0.0, 0.01)),
        **towers(),
        augment=CHANGED,
    )


def clip_lora(trial: TrialLike) -> Strategy:
    """Rank, strength, dropout and place of the updates, and augmentation beside what all with a text tower have."""
    return suggest(
        trial,
        ClipLora,
        prefix="clip_lora",
        **LORA_ON_BOTH,
        optim=large_batches(MODULE_LR),
        **towers(),
        augment=CHANGED,
    )


def prolip(trial: TrialLike) -> Strategy:
    """Rates of the projections and the pull to the pretrained ones beside what all with a text tower have."""
    return suggest(
        trial,
        ProLip,
        prefix="prolip",
        optim=large_batches(PROJECTION_LR),
        pull=PROJECTION_PULL,
        **towers(),
    )


SPACES: dict[str, Space] = {
    "zero_shot": zero_shot,
    "linear_probe": linear_probe,
    "full": full,
    "joint": joint,
    "adapters": adapters,
    "lora": lora,
    "two_tower": two_tower,
    "clip_lora": clip_lora,
    "prolip": prolip,
}
"""The space of every strategy that is searched for this task, by its name."""
