"""Entrants of finals, made up: identities as points, their images some noise off them."""

from dataclasses import replace

import numpy as np
import torch

from handclip_core.data.manifest import GallerySplit
from handclip_core.evaluation.access_log import Entry
from handclip_core.evaluation.bootstrap import compare_paired, estimate
from handclip_core.evaluation.protocol import ProtocolScores, score_gallery_splits
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.final_scores import Facts
from handclip_core.strategies import Adapters, AnyStrategy, Full, LinearProbe, ZeroShot
from tune_jobs.finals.candidates import Finalist
from tune_jobs.finals.final_test import FinalTest
from tune_jobs.finals.mixtures import Entrant, Recipe
from tune_jobs.finals.ranking import rank
from tune_jobs.finals.report import FinalsReport

PEOPLE, EACH = 20, 4
IDENTITIES = np.repeat(np.arange(PEOPLE), EACH)
FIRSTS = tuple(range(0, PEOPLE * EACH, EACH))
OTHERS = tuple(row for row in range(PEOPLE * EACH) if row not in FIRSTS)
DRAWS = (GallerySplit(gallery={"dorsal right": FIRSTS}, query={"dorsal right": OTHERS}),)
STRATEGIES: dict[str, AnyStrategy] = {
    "zero_shot": ZeroShot(),
    "linear_probe": LinearProbe(),
    "full": Full(),
    "adapters": Adapters(),
}


def scores(noise: float, seed: int) -> ProtocolScores:
    """Scores that fall as ``noise`` grows."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(PEOPLE, 3, generator=random)
    wobble = torch.randn(len(IDENTITIES), 3, generator=random.manual_seed(seed))
    return score_gallery_splits(centres[IDENTITIES] + noise * wobble, np.arange(len(IDENTITIES)), DRAWS, IDENTITIES)


def facts(**changed: float) -> Facts:
    """What a run tells beside its scores."""
    values = {"peak": 0.5, "peak_unit": 10, "units": 10, "images": 3600, "train_s": 36.0, "cpu_s": 72.0} | {
        "params_trained": 1000
    }
    return Facts(manifest_hash="0" * 64, **(values | changed))  # type: ignore[arg-type]


def finalist(strategy: str, *, trial: int | None = None, swept: float | None = None, backbone: str = "") -> Finalist:
    """A configuration of the finals; a backbone that is called ``test_vit`` is an image tower."""
    role = "default" if trial is None else "rank 1"
    tower = BackboneSettings(name="timm/test_vit") if backbone == "test_vit" else BackboneSettings()
    return Finalist(Experiment(strategy=STRATEGIES[strategy], backbone=tower), trial, swept, (role,), backbone)


def entrant(
    strategy: str,
    noise: float,
    *,
    trial: int | None = None,
    swept: float | None = None,
    seeds: tuple[int, ...] = (1, 2, 3),
    known: Facts | None = None,
    backbone: str = "",
) -> Entrant:
    """A configuration that ran on ``seeds``."""
    one = finalist(strategy, trial=trial, swept=swept, backbone=backbone)
    runs = tuple(known or facts() for _ in seeds)
    return Entrant(one.name, Recipe((one,)), tuple(scores(noise, seed) for seed in seeds), (runs,))


def looked(number: int) -> FinalTest:
    """The look at the test identities of that number, of two."""
    about = {"sweep": "tiny", "chosen": "full, trial 2"}
    looks = tuple(Entry(n, f"2030-01-0{n}", "opened", about, "", str(n)) for n in (1, 2))
    better, worse = scores(0.3, 1), scores(0.8, 1)
    figures, clip = ({name: estimate(one, name) for name in ("map", "cmc1")} for one in (better, worse))
    gaps = {name: compare_paired(better, worse, name) for name in ("map", "cmc1")}
    return FinalTest(
        "full, trial 2", "abc", number, looks, figures, clip, gaps, as_it_is="its backbone as it is", model="abc"
    )


def held_against(report: FinalsReport, noise: float) -> FinalsReport:
    """The same finals with a baseline."""
    entrants = [row.entrant for row in report.standings.rows]
    return replace(report, standings=rank(entrants, {"hog": scores(noise, 9), "pixels": scores(0.95, 9)}))
