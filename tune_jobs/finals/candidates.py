"""Who runs again in the finals: the best configurations, every strategy's best and default, and CLIP as it is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from handclip_core.runs.experiment import Experiment
from search_spaces.arms import arm_of, backbone_in, strategy_in
from tune_jobs.finals.past_sweep import PastSweep
from tune_jobs.reporting.summary import BASELINE

FIRST_SEED = 1001


@dataclass(frozen=True)
class Finalist:
    """A configuration of the finals, whatever its seed.

    ``trial`` and ``swept_score`` are the number and the score of the best trial that the sweep made of it, if any;
    ``roles`` say why it is here.
    """

    experiment: Experiment
    trial: int | None
    swept_score: float | None
    roles: tuple[str, ...]
    backbone: str = ""
    """What the sweep calls its backbone; empty if there is only one."""

    @property
    def strategy(self) -> str:
        """Name of its strategy."""
        return self.experiment.strategy.name

    @property
    def arm(self) -> str:
        """Strategy and backbone."""
        return arm_of(self.strategy, self.backbone)

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.arm}, {'default' if self.trial is None else f'trial {self.trial}'}"

    @property
    def key(self) -> str:
        """What its folder is called: the strategy and a hash of everything but the seed."""
        return f"{self.strategy}-{hash_of(self.experiment)[:12]}"

    def on(self, seed: int) -> Experiment:
        """Its experiment on another seed."""
        return self.experiment.model_copy(update={"seed": seed})


def hash_of(experiment: Experiment) -> str:
    """SHA-256 of what fixes a result of ``experiment``: not its seed, nor in how many parts a batch is computed.

    Only what differs from the defaults counts, so that a setting added in a later version changes nothing.
    """
    same = experiment.model_copy(update={"seed": 0, "micro_batch": None})
    text = f"{same.strategy.name} {same.data.source} {same.model_dump_json(exclude_defaults=True)}"
    return hashlib.sha256(text.encode()).hexdigest()


def choose(past: PastSweep, *, top: int) -> list[Finalist]:
    """The ``top`` configurations, every strategy's best and default, and zero-shot: each once, best trials first.

    With several backbones that is every strategy's on each, and zero-shot on each. The default is that of the sweep:
    where ranges were narrowed, the nearest that they allow.
    """
    labels = [backbone_in(arm) for arm in past.arms]
    space = past.settings.search.space(past.arms, past.settings.task)
    best: dict[str, Finalist] = {}
    roles: dict[str, list[str]] = {}
    for one in past.tried:
        finalist = Finalist(one.experiment, one.number, one.score, (), one.backbone)
        best.setdefault(hash_of(one.experiment), finalist)
    ranked = list(best)
    for rank, key in enumerate(ranked[:top], start=1):
        roles.setdefault(key, []).append(f"rank {rank}")
    for arm in past.arms:
        first = next((key for key in ranked if best[key].arm == arm), None)
        if first is not None:
            roles.setdefault(first, []).append(f"best {arm}")
    # What nothing was trained of runs even if the sweep never tried it.
    for arm in dict.fromkeys((*(arm_of(BASELINE, label) for label in labels), *past.arms)):
        changes = {"strategy": space.default(arm).strategy, "backbone": past.settings.backbone_of(arm)}
        default = past.tried[0].experiment.model_copy(update=changes)
        key = hash_of(default)
        best.setdefault(key, Finalist(default, None, None, (), backbone_in(arm)))
        roles.setdefault(key, []).append(BASELINE if strategy_in(arm) == BASELINE else "default")
    chosen = [replace(finalist, roles=tuple(roles[key])) for key, finalist in best.items() if key in roles]
    return sorted(chosen, key=lambda finalist: -(finalist.swept_score or 0.0))


def fresh_seeds(used: Sequence[int], num: int) -> tuple[int, ...]:
    """The first ``num`` seeds from 1001 that are not among ``used``: more of them begin with the same ones."""
    seeds: list[int] = []
    candidate = FIRST_SEED
    while len(seeds) < num:
        if candidate not in used:
            seeds.append(candidate)
        candidate += 1
    return tuple(seeds)
