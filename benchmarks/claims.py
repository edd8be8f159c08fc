"""What is claimed of speed: each claim measures this package and a rival, or a limit of the machine, in one process.

Limits are measured in the same run: the peak of a matrix product, the product alone, the import that nobody can do
without. All but the races of ``against_rivals`` use one thread and processor time, so that neighbours do not count.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.against_rivals import IMPORT, JOBS, KEPT, LOOP, OURS, RAY, Taken, medians, model_of, race
from benchmarks.steps import full_ms, optimiser_ms, probe_ms

ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """A claim: what ours takes, what the other takes, and the target of ours / other, or of ours if ``alone``.

    ``most`` says that the figure should be below its target, else above. ``samples`` are the raw measurements.
    """

    claim: str
    ours: float
    unit: str
    target: float | None
    other: float | None = None
    beside: str = ""
    most: bool = True
    samples: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Ours / other."""
        return None if self.other is None else self.ours / self.other

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        figure = self.ours if self.ratio is None else self.ratio
        return None if self.target is None else (figure <= self.target) is self.most


def rivals(cache: Path) -> list[Row]:
    """The sweep of ten configurations beside people's own code; the slowest rivals have one round."""
    found = race("nano", {OURS: 3, KEPT: 3, LOOP: 1, RAY: 1, IMPORT: 3}, cache)
    best = {name: medians(times) for name, times in found.items()}
    samples = {name: [asdict(taken) for taken in times] for name, times in found.items()}
    ours, least = best[OURS], best[IMPORT]
    told: list[tuple[str, float, float | None]] = [(KEPT, 0.6, 0.6), (LOOP, 0.25, None), (RAY, 0.15, None)]
    rows = []
    for name, wall, cpu in told:
        rows.append(Row(f"sweep of 10, to {name}: wall", ours.wall_s, "s", wall, best[name].wall_s, name))
        rows.append(Row(f"sweep of 10, to {name}: CPU", ours.cpu_s, "CPU s", cpu, best[name].cpu_s, name))
    rows.append(Row("sweep to the first finished trial", ours.first_s, "s", 8.0, samples=samples))
    rows.append(Row("last trial to the prompt", ours.last_s, "s", 3.0))
    rows.append(Row("first trial, to the import", ours.first_s, "s", None, least.wall_s, IMPORT))
    rows.append(Row("last trial to the prompt, to the import", ours.last_s, "s", None, least.wall_s, IMPORT))
    return rows


def large_tower(cache: Path) -> list[Row]:
    """Three configurations on a ViT-B/32; the first round of ours, which fills the caches, does not count."""
    race("vit", {OURS: 1}, cache)
    found = race("vit", {OURS: 2, KEPT: 2}, cache)
    ours, kept = medians(found[OURS]), medians(found[KEPT])
    samples = {name: [asdict(taken) for taken in times] for name, times in found.items()}
    return [
        Row("three on ViT-B/32: wall", ours.wall_s, "s", 0.55, kept.wall_s, KEPT, samples=samples),
        Row("three on ViT-B/32: CPU", ours.cpu_s, "CPU s", None, kept.cpu_s, KEPT),
    ]


def steps(_: Path) -> list[Row]:
    """A step of full fine-tuning, of a head on cached features, and of the optimiser."""
    probe_ms()  # fills the caches
    probe = [probe_ms() for _ in range(ROUNDS)]
    fused = [optimiser_ms(150, 768) for _ in range(ROUNDS)]
    both = [full_ms() for _ in range(ROUNDS)]
    ours, bare = (statistics.median(values) for values in zip(*both, strict=True))
    return [
        Row("full step of handclip-nano", ours, "CPU ms", 1.02, bare, "a bare loop", samples={"ms": both}),
        Row("linear-probe step on cached features", statistics.median(probe), "CPU ms", 0.6, samples={"ms": probe}),
        Row("optimiser step of 88 M weights", statistics.median(fused), "CPU ms", 70, samples={"ms": fused}),
    ]


def bfloat16(cache: Path) -> list[Row]:
    """A training step of a ViT-B/32 on 32 images in both precisions, and the peak of a matrix product in each."""
    from handclip_core.engine.precision import Precision, autocast
    from handclip_core.models.backbone import BackboneSettings, load_backbone
    from handclip_core.runs.precision import has_bfloat16

    if not has_bfloat16():
        return []
    tower = load_backbone(BackboneSettings(name=f"local-dir:{model_of('vit', cache)}")).requires_grad_().train()
    pixels = torch.rand(32, 3, tower.image_px, tower.image_px)
    seconds: dict[Precision, list[float]] = {Precision.FLOAT32: [], Precision.BFLOAT16: []}
    for number in range(4):
        for precision, into in seconds.items():
            started = time.process_time()
            with autocast(torch.device("cpu"), precision):
                projected = tower(pixels).projected
            projected.float().sum().backward()
            if number:
                into.append(time.process_time() - started)
    high, low = (statistics.median(values) for values in seconds.values())
    flop = 3 * 2 * 32 * 50 * (sum(w.numel() for w in tower.visual.parameters() if w.ndim == 2))
    peak = _peak_flops(torch.bfloat16)
    return [
        Row("ViT-B/32 full step, float32 / bfloat16", high, "CPU s", 1.7, low, "in bfloat16", most=False,
            samples={str(name): values for name, values in seconds.items()}),
        Row("ViT-B/32 step in bfloat16, of the matrix peak", flop / low / 1e9, "GFLOP/s", 0.65, peak / 1e9,
            "product of 1,024 x 1,024", most=False),
    ]  # fmt: skip


def _peak_flops(dtype: torch.dtype) -> float:
    one = torch.rand(1024, 1024).to(dtype)
    rates = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(10):
            one @ one
        rates.append(10 * 2 * 1024**3 / (time.process_time() - started))
    return max(rates)


def validation(cache: Path) -> list[Row]:
    """What of a trial of full fine-tuning is validation, on the data of the race; the first unit does not count."""
    from handclip_core.runs.experiment import Experiment, run

    del cache
    values = {"strategy": {"name": "full"}, "data": JOBS["nano"].data, "budget": 4}
    started = trained = 0.0
    for progress in run(Experiment.model_validate(values), device=torch.device("cpu")):
        if progress.unit == 1:
            started = time.process_time()
        else:
            trained += progress.cpu_s
    share = 1 - trained / (time.process_time() - started)
    return [Row("validation's share of a full trial", share, "of its CPU", 0.08)]


def scoring(cache: Path) -> list[Row]:
    """Scores of 10,000 queries in a gallery of 100,000, to the matrix product alone."""
    from handclip_core.evaluation.retrieval import embedding_scores

    del cache
    torch.manual_seed(0)
    ids = np.arange(100_000) // 10
    gallery = F.normalize(torch.randn(10_000, 512)[ids] + 2 * torch.randn(100_000, 512), dim=1)
    query = F.normalize(gallery[::10] + 0.05 * torch.randn(10_000, 512), dim=1)
    ours, product = [], []
    for _ in range(3):
        started = time.process_time()
        embedding_scores(query, gallery, ids[::10], ids)
        ours.append(time.process_time() - started)
        started = time.process_time()
        for part in query.split(500):
            part @ gallery.T
        product.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    pair = (min(ours), min(product))
    return [
        Row("scoring 10,000 x 100,000 x 512", pair[0], "CPU s", 1.15, pair[1], "the product alone",
            samples={"ours": ours, "product": product, "peak_gib": peak})
    ]  # fmt: skip


def simulated(_: Path) -> list[Row]:
    """What the driver spends on a trial late in a long sweep, to early in it."""
    said = subprocess.run(
        [sys.executable, "benchmarks/overhead.py", "simulated", "--trials", "4000"],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    ms = [float(line.split("trials:")[1].split("ms")[0]) for line in said if "ms of the processor" in line]
    mib = [float(line.rsplit("peak of", 1)[1].split()[0]) for line in said if "peak of" in line]
    grown = (mib[-1] - mib[0]) * 1024 / (500 * (len(mib) - 1))
    return [
        Row("driver's CPU a trial at 4,000, to 500", ms[-1], "ms", 1.1, ms[0], "at 500", samples={"ms": ms}),
        Row("driver's memory a trial", grown, "KiB", 10.0, samples={"mib": mib}),
    ]


def drawing(_: Path) -> list[Row]:
    """Drawing hands at 1600 x 1200, one core."""
    from handclip_core.drawn.dataset import draw_arrays

    rates = []
    for seed in range(2):
        started = time.process_time()
        drawn = draw_arrays(
            population="default", seed=seed, people=2, images_per_aspect=1, height_px=1200, workers=1, captions=False
        )
        rates.append(len(drawn.pixels) / (time.process_time() - started))
    return [Row("drawing hands at 1600 x 1200", max(rates), "images/CPU s", 3.0, most=False, samples={"rates": rates})]


def commands(cache: Path) -> list[Row]:
    """Showing what a sweep has found, and evaluating its winner, beside the import that the latter needs."""
    from benchmarks.against_rivals import taken_by

    settings = "name: shown\ndata: {source: drawn, people: 12, images_per_aspect: 3, height_px: 96}\n"
    settings += "strategies: [linear_probe]\ntrials: 2\nbudget: 1\n"
    root = Path.cwd()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "shown.yaml").write_text(settings)
        taken_by([sys.executable, str(root / "tune_jobs/sweep.py"), "shown.yaml"], folder)
        watch = [sys.executable, str(root / "tune_jobs/watch.py"), "shown", "--once"]
        best = [sys.executable, "-m", "handclip_core", "evaluate", "runs/shown/best"]
        plain = [sys.executable, "-c", "import torch, open_clip"]
        times: dict[str, list[Taken]] = {"watch": [], "evaluate": [], "import": []}
        for _ in range(3):
            for name, command in (("watch", watch), ("evaluate", best), ("import", plain)):
                times[name].append(taken_by(command, folder))
    del cache
    walls = {name: medians(taken).wall_s for name, taken in times.items()}
    samples = {name: [asdict(one) for one in taken] for name, taken in times.items()}
    return [
        Row("watch.py --once of a finished sweep", walls["watch"], "s", 1.5, samples=samples),
        Row("evaluate best", walls["evaluate"], "s", 1.3, walls["import"], IMPORT),
    ]


CLAIMS: dict[str, Callable[[Path], list[Row]]] = {
    "rivals": rivals,
    "large_tower": large_tower,
    "steps": steps,
    "bfloat16": bfloat16,
    "validation": validation,
    "scoring": scoring,
    "simulated": simulated,
    "drawing": drawing,
    "commands": commands,
}
