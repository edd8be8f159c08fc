"""What the cost-aware choice among backbones is worth: made-up sweeps over two towers, one ten times as slow.

    python benchmarks/backbone_costs.py [--seeds 10] [--trials 40]

A trial's score is the height of its tower, less what its learning rate is off the best one, and noise. Prints, for a
large tower that is as good as the small one and for one that is better, the true score of the best trial and the hours
that all trials took, with the costs as they are and with equal ones.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from math import log10
from statistics import fmean
from unittest.mock import patch

import numpy as np
import optuna

from handclip_core.models.backbone import BackboneSettings
from tests.tune_jobs.made_up import MadeUpSweep, metrics, validated
from tune_jobs.config.settings import SweepSettings
from tune_jobs.search import proposer
from tune_jobs.state.events import Opened
from tune_jobs.state.trial import TrialView

LARGE = BackboneSettings(name="timm/test_vit", pretrained="random")
SECONDS = {"handclip-nano": 60.0, "test_vit": 600.0}
BEST_RATE, NOISE = 3e-5, 0.01


def true_score(trial: TrialView, lead: float) -> float:
    """What a trial would reach without noise; ``lead`` is that of the large tower."""
    rate = trial.params["strategy/optim/lr"]
    assert isinstance(rate, float)
    return 0.6 + lead * (trial.backbone == "test_vit") - 0.1 * log10(rate / BEST_RATE) ** 2


def sweep(seed: int, *, trials: int, lead: float) -> tuple[float, float]:
    """The true score of the trial that looks best, and the hours of all trials."""
    settings = SweepSettings(
        backbone=(BackboneSettings(), LARGE), strategies=("full", "joint"), trials=trials, seed=seed
    )
    made_up, search, noise = MadeUpSweep(), proposer.SearchProposer(settings), np.random.default_rng(seed)
    made_up.happened(Opened(at=made_up.clock(), gpus=0.0, settings=settings.model_dump(mode="json")))
    found: list[tuple[float, float]] = []
    for _ in range(trials):
        trial = made_up.begin(search.next(made_up.all_trials))
        true = true_score(trial, lead)
        seen = true + NOISE * noise.standard_normal()
        unit = validated(trial.number, 1, seen, best=metrics(seen), seconds=SECONDS[trial.backbone])
        made_up.happened(unit)
        made_up.end(trial)
        found.append((seen, true))
    return max(found)[1], sum(view.seconds for view in made_up.all_trials.all()) / 3600


def equal(arms: Sequence[str], *_: object, **__: object) -> Mapping[str, float]:
    """Costs that make no difference."""
    return dict.fromkeys(arms, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print("| large tower | costs | true score | hours |\n|---|---|---:|---:|")
    kinds: dict[str, Callable[..., Mapping[str, float]]] = {"as they are": proposer.costs_of, "equal": equal}
    for lead in (0.0, 0.02, 0.1):
        for name, costs in kinds.items():
            with patch.object(proposer, "costs_of", costs):
                found = [sweep(seed, trials=chosen.trials, lead=lead) for seed in range(chosen.seeds)]
            score, hours = (fmean(one) for one in zip(*found, strict=True))
            print(f"| {lead:+.2f} | {name} | {score:.4f} | {hours:.2f} |", flush=True)


if __name__ == "__main__":
    main()
