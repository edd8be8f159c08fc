"""What is searched for each strategy where the task is ``captions``, side by side."""

from handclip_core.losses.matching_settings import MatchingKind, MatchingSettings
from handclip_core.losses.mining import Mining
from handclip_core.losses.negatives import Negatives
from handclip_core.strategies import ClipLora, ProLip, Strategy, TwoTower
from search_spaces.ranges import (
    CHANGED,
    LORA_ON_BOTH,
    MODULE_LR,
    PROJECTION_LR,
    PROJECTION_PULL,
    TEXT_RATES,
    TOWER_LR,
    VISION_RATES,
    large_batches,
)
from search_spaces.spaces import Space, zero_shot
from search_spaces.suggest import Choice, Float, LogInt, Nested, TrialLike, When, suggest

LOSS = Nested(
    MatchingSettings,
    kind=Choice((MatchingKind.CLIP, MatchingKind.INFONCE, MatchingKind.TRIPLET)),
    learn_temperature=When("kind", (MatchingKind.CLIP, MatchingKind.INFONCE), Choice((False, True))),
    margin=When("kind", (MatchingKind.TRIPLET,), Float(0.05, 0.5)),
    mining=When("kind", (MatchingKind.TRIPLET,), Choice(tuple(Mining))),
    negatives=Choice((Negatives.ALL, Negatives.BY_TEXT, Negatives.BY_IMAGE)),
    num_negatives=When("negatives", (Negatives.BY_TEXT, Negatives.BY_IMAGE), LogInt(4, 32)),
)


def two_tower(trial: TrialLike) -> Strategy:
    """Rates of the towers, the loss, a pull to the pretrained weights, and augmentation."""
    return suggest(
        trial,
        TwoTower,
        prefix="two_tower",
        optim=large_batches(TOWER_LR),
        text=TEXT_RATES,
        vision=VISION_RATES,
        losses=LOSS,
        pull=Choice((0.0, 0.01)),
        augment=CHANGED,
    )


def clip_lora(trial: TrialLike) -> Strategy:
    """Rank, strength, dropout and place of the updates beside rates, loss and augmentation."""
    return suggest(
        trial,
        ClipLora,
        prefix="clip_lora",
        **LORA_ON_BOTH,
        optim=large_batches(MODULE_LR),
        text=TEXT_RATES,
        vision=VISION_RATES,
        losses=LOSS,
        augment=CHANGED,
    )


def prolip(trial: TrialLike) -> Strategy:
    """Rates of the projections, the pull to the pretrained ones, and the loss."""
    return suggest(
        trial,
        ProLip,
        prefix="prolip",
        optim=large_batches(PROJECTION_LR),
        text=TEXT_RATES,
        vision=VISION_RATES,
        losses=LOSS,
        pull=PROJECTION_PULL,
    )


SPACES: dict[str, Space] = {
    "zero_shot": zero_shot,
    "two_tower": two_tower,
    "clip_lora": clip_lora,
    "prolip": prolip,
}
"""The space of every strategy that is searched for this task, by its name."""
