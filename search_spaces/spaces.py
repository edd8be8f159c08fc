"""What is searched for each strategy, side by side so that unfairness would be seen."""

from collections.abc import Callable, Mapping, Sequence

from handclip_core.data.sampling import SamplerSettings
from handclip_core.data.training import LabelBy
from handclip_core.engine.phase import Optim
from handclip_core.losses.ewc import Remember
from handclip_core.losses.mining import Mining
from handclip_core.losses.settings import (
    Contrast,
    ContrastiveSettings,
    IdentitySettings,
    ImageTextSettings,
    Losses,
    TripletSettings,
)
from handclip_core.models.adapters import Place
from handclip_core.models.lora import LoraTargets
from handclip_core.models.metric import MetricKind, MetricSettings
from handclip_core.models.neck import READS_BLOCKS, NeckInput, NeckKind, NeckSettings
from handclip_core.models.views.experts import ExpertFusion
from handclip_core.strategies import (
    ALL,
    Adapters,
    AspectSpecific,
    ClipReid,
    CrossView,
    Curriculum,
    Full,
    Joint,
    LinearProbe,
    Lora,
    MultiBranch,
    Sequential,
    SequentialEWC,
    Strategy,
    Whitening,
    ZeroShot,
)
from handclip_core.strategies.clip_reid import PromptSettings
from handclip_core.strategies.curriculum import Difficulty, Direction, Pace
from search_spaces.ranges import (
    AUGMENT,
    FITTED,
    HEAD_LR_SCALE,
    LOSSES,
    MODULE_LR,
    NECKS,
    ORDER,
    READOUT,
    SMOOTHED,
    TOWER_LR,
    neck,
    optim,
    tower,
)
from search_spaces.suggest import (
    Choice,
    Float,
    LogFloat,
    LogInt,
    Nested,
    Primitive,
    SettingsTrial,
    TrialLike,
    When,
    suggest,
)

Space = Callable[[TrialLike], Strategy]

STRATEGY = "strategy"
"""The name under which Optuna sees the choice of a strategy."""


def zero_shot(trial: TrialLike) -> Strategy:
    """Nothing to search."""
    return suggest(trial, ZeroShot, prefix="zero_shot")


def whitening(trial: TrialLike) -> Strategy:
    """What is read, how it is pooled, the metric, which vectors count, shrinkage, and what counts as one class."""
    return suggest(
        trial,
        Whitening,
        prefix="whitening",
        neck=Nested(
            NeckSettings,
            source=Choice((NeckInput.ALL, NeckInput.BLOCKS, NeckInput.BOTH)),
            readout=When("source", READS_BLOCKS, READOUT),
            metric=Nested(
                MetricSettings,
                kind=Choice(FITTED),
                vectors=Choice(("validation", "all")),
                # Where vectors are chosen on held-out training identities, the shrinkage of each is, too.
                shrinkage=When("vectors", ("all",), LogFloat(1e-3, 0.9)),
                dim=Choice((None, 32, 64, 128, 256)),
            ),
        ),
        labels=When("neck.metric.kind", FITTED[1:], Choice(tuple(LabelBy))),
    )


def linear_probe(trial: TrialLike) -> Strategy:
    """Neck, rates, smoothing, and fine-tuning after the probe. No augmentation: the probe reads cached activations."""
    return suggest(
        trial,
        LinearProbe,
        prefix="linear_probe",
        optim=optim(LogFloat(1e-4, 1e-1)),
        neck=neck(NeckKind.BN, NeckKind.LINEAR, embedding=False),
        losses=LOSSES,
        finetune_share=Choice((0.0, 0.5)),
        finetune_lr=When("finetune_share", (0.5,), TOWER_LR),
    )


def full(trial: TrialLike) -> Strategy:
    """Rates of tower and head, their decay by depth, what stays frozen, neck, smoothing and augmentation."""
    return suggest(trial, Full, prefix="full", **tower(), losses=LOSSES)


def joint(trial: TrialLike) -> Strategy:
    """The same as ``full``; what differs is how batches are put together."""
    return suggest(trial, Joint, prefix="joint", **tower(), losses=LOSSES)


def sequential(trial: TrialLike) -> Strategy:
    """The same as ``full``, and the order of the aspects."""
    return suggest(trial, Sequential, prefix="sequential", **tower(), losses=LOSSES, order=ORDER)


def sequential_ewc(trial: TrialLike) -> Strategy:
    """The same as ``sequential``, and EWC's strength and memory."""
    return suggest(
        trial,
        SequentialEWC,
        prefix="sequential_ewc",
        **tower(),
        losses=LOSSES,
        order=ORDER,
        strength=LogFloat(1e-3, 1e4),
        remember=Choice(tuple(Remember)),
        fisher_decay=When("remember", (Remember.ONLINE,), Float(0.5, 1.0)),
    )


def cross_view(trial: TrialLike) -> Strategy:
    """The same as ``full``, and what attracts what, how many images of it meet, and how sharply they differ."""
    return suggest(
        trial,
        CrossView,
        prefix="cross_view",
        **tower(),
        labels=Choice((LabelBy.HAND, LabelBy.PERSON)),
        sampler=Nested(SamplerSettings, images_each=Choice((2, 4, 8))),
        losses=Nested(
            Losses,
            identity=SMOOTHED,
            contrastive=Nested(
                ContrastiveSettings,
                kind=Choice(tuple(Contrast)),
                weight=LogFloat(0.1, 10.0),
                temperature=LogFloat(0.03, 0.5),
            ),
            triplet=Nested(TripletSettings, weight=Choice((0.0, 1.0))),
            unit_length=When("triplet.weight", (1.0,), Choice((False, True))),
        ),
    )


def curriculum(trial: TrialLike) -> Strategy:
    """The same as ``full``, and what is easy, how much of it comes first, and how the rest joins."""
    return suggest(
        trial,
        Curriculum,
        prefix="curriculum",
        **tower(),
        losses=LOSSES,
        direction=Choice(tuple(Direction)),
        difficulty=When("direction", (Direction.EASY_FIRST, Direction.HARD_FIRST), Choice(tuple(Difficulty))),
        pace=Choice(tuple(Pace)),
        start=Float(0.2, 0.8),
    )


def multi_branch(trial: TrialLike) -> Strategy:
    """The same as ``full``; what differs is that every aspect has a neck and a head."""
    return suggest(trial, MultiBranch, prefix="multi_branch", **tower(), losses=LOSSES)


def aspect_specific(trial: TrialLike) -> Strategy:
    """The same as ``full``, for every expert alike, and how experts are fused if the cosine compares them."""
    return suggest(
        trial,
        AspectSpecific,
        prefix="aspect_specific",
        **tower(),
        losses=LOSSES,
        fusion=When("neck.metric.kind", (MetricKind.NONE,), Choice(tuple(ExpertFusion))),
    )


def adapters(trial: TrialLike) -> Strategy:
    """Width and place of the bottlenecks, rates, neck, smoothing and augmentation."""
    return suggest(
        trial,
        Adapters,
        prefix="adapters",
        optim=optim(MODULE_LR),
        width=LogInt(4, 256),
        place=Choice(tuple(Place)),
        head_lr_scale=HEAD_LR_SCALE,
        neck=neck(*NECKS),
        losses=LOSSES,
        augment=AUGMENT,
    )


def lora(trial: TrialLike) -> Strategy:
    """Rank, strength, dropout and place of the updates, rates, neck, smoothing and augmentation."""
    return suggest(
        trial,
        Lora,
        prefix="lora",
        optim=optim(MODULE_LR),
        rank=LogInt(2, 64),
        alpha=LogFloat(4.0, 128.0),
        dropout=Float(0.0, 0.3),
        targets=Choice(tuple(LoraTargets)),
        last_blocks=Choice((None, 2, 4)),
        head_lr_scale=HEAD_LR_SCALE,
        # The attention of a ResNet lies behind the trunk's features.
        neck=neck(*NECKS, sources=(NeckInput.PROJECTED, NeckInput.BOTH)),
        losses=LOSSES,
        augment=AUGMENT,
    )


def clip_reid(trial: TrialLike) -> Strategy:
    """The same as ``full``; length, rate and share of the prompts; weights and shapes of the losses beside them."""
    return suggest(
        trial,
        ClipReid,
        prefix="clip_reid",
        **tower(),
        prompts=Nested(
            PromptSettings,
            num_tokens=Choice((2, 4, 8)),
            share=Float(0.1, 0.7),
            optim=Nested(Optim, lr=LogFloat(1e-4, 1e-1), batch_size=Choice((16, 64))),
        ),
        losses=Nested(
            Losses,
            image_text=Nested(ImageTextSettings, weight=LogFloat(0.03, 10.0), temperature=LogFloat(0.3, 3.0)),
            identity=Nested(IdentitySettings, weight=LogFloat(0.1, 3.0), smoothing=Float(0.0, 0.3)),
            triplet=Nested(
                TripletSettings, weight=LogFloat(0.1, 3.0), margin=Float(0.1, 1.0), mining=Choice(tuple(Mining))
            ),
        ),
    )


SPACES: dict[str, Space] = {
    "zero_shot": zero_shot,
    "whitening": whitening,
    "linear_probe": linear_probe,
    "full": full,
    "sequential": sequential,
    "sequential_ewc": sequential_ewc,
    "joint": joint,
    "cross_view": cross_view,
    "curriculum": curriculum,
    "multi_branch": multi_branch,
    "aspect_specific": aspect_specific,
    "adapters": adapters,
    "lora": lora,
    "clip_reid": clip_reid,
}
"""The space of every strategy, by its name."""


def default_of(name: str) -> Strategy:
    """The published default of a strategy."""
    kinds: dict[str, Callable[[], Strategy]] = {kind.model_fields["name"].default: kind for kind in ALL}
    return kinds[name]()


def params_of(strategy: Strategy, spaces: Mapping[str, Space] = SPACES) -> dict[str, Primitive]:
    """The draws, by Optuna's names, that lead to ``strategy``; its own name is not among them.

    Raises ValueError if it lies outside its space.
    """
    reader = SettingsTrial(strategy)
    drawn = spaces[strategy.name](reader)
    if drawn != strategy:
        raise ValueError(f"{strategy.name}: settings that are not searched differ from their defaults")
    return reader.params


def searchable(names: Sequence[str], spaces: Mapping[str, Space] = SPACES) -> tuple[str, ...]:
    """Those of the strategies that have anything to search."""
    return tuple(name for name in names if params_of(default_of(name), spaces))


def experiment_space(trial: TrialLike, names: Sequence[str]) -> Strategy:
    """Draw one of the searchable strategies ``names``, then its settings."""
    name = trial.suggest_categorical(STRATEGY, list(names))
    return SPACES[name](trial)
