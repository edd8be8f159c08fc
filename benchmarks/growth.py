"""How cost grows, as plots: with the gallery, the images, the identities and the trials: ``make growth``.

Processor time of one thread, so that neighbours do not count. Writes ``docs/growth.svg`` and prints the points.
Run: uv run --with matplotlib python -m benchmarks.growth [--out FILE]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

Points = list[tuple[int, float]]


def timed(work: Callable[[], object]) -> float:
    """CPU seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def gallery() -> Points:
    """Scoring 1,000 queries, by images in the gallery."""
    from handclip_core.evaluation.retrieval import embedding_scores

    points = []
    for size in (1_000, 3_000, 10_000, 30_000, 100_000):
        torch.manual_seed(0)
        ids = np.arange(size) // 10
        entries = F.normalize(torch.randn(size, 512), dim=1)
        asked = np.arange(1_000) * (size // 1_000)
        query = F.normalize(entries[asked] + 0.5 * torch.randn(1_000, 512) / 22, dim=1)
        points.append((size, timed(lambda q=query, e=entries, a=asked, i=ids: embedding_scores(q, e, i[a], i))))  # type: ignore[misc]
    return points


def images() -> Points:
    """Decoding JPEGs of 1600 x 1200 into the cache, by images."""
    from PIL import Image

    from handclip_core.data.pixels import shrink

    noise = np.random.default_rng(0).integers(0, 256, (75, 100, 3), np.uint8)
    with tempfile.TemporaryDirectory() as text:
        file = Path(text) / "a.jpg"
        Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC).save(file, quality=90)
        data = file.read_bytes()
        return [(num, timed(lambda n=num: [shrink(data, size_px=224) for _ in range(n)])) for num in (25, 50, 100, 200)]  # type: ignore[misc]


def copies() -> Points:
    """Looking for near-duplicates among strangers, by images: every pair of hashes is compared."""
    from handclip_core.data.lookalike import near_pairs

    points = []
    for num in (2_500, 5_000, 10_000, 20_000, 40_000):
        looks = np.array(
            [row.tobytes().hex() for row in np.random.default_rng(0).integers(0, 256, (num, 32), np.uint8)]
        )
        everything = np.arange(num)
        points.append((num, timed(lambda k=looks, e=everything: near_pairs(k, e, e))))  # type: ignore[misc]
    return points


def identities() -> Points:
    """An interval over identities of twenty queries each, by identities."""
    from handclip_core.evaluation.bootstrap import estimate
    from handclip_core.tasks.classes.scores import ClassScores

    points = []
    for num in (30, 100, 300, 1_000, 3_000):
        rng = np.random.default_rng(0)
        rows = np.arange(20 * num)
        first = rng.random(len(rows))
        scores = ClassScores(
            ("a", "b"), rows, rng.integers(0, 2, len(rows)), rows // 20, np.stack([first, 1 - first], 1)
        )
        points.append((num, timed(lambda s=scores: estimate(s, "accuracy"))))  # type: ignore[misc]
    return points


def trials() -> Points:
    """What the driver spends on a simulated trial, by trials behind it."""
    import subprocess
    import sys

    said = subprocess.run(
        [sys.executable, "benchmarks/overhead.py", "simulated", "--trials", "1500"],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    lines = [line.split("trials:") for line in said if "ms of the processor" in line]
    return [(int(number), float(rest.split("ms")[0]) / 1000) for number, rest in lines]


PLOTS: dict[str, tuple[Callable[[], Points], str]] = {
    "scoring 1,000 queries": (gallery, "images in the gallery"),
    "decoding": (images, "images of 1600 x 1200"),
    "looking for near-duplicates": (copies, "images"),
    "an interval": (identities, "identities"),
    "the driver, a trial": (trials, "trials behind it"),
}


def main() -> None:
    import matplotlib.pyplot as plt  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "growth.svg")
    given = parser.parse_args()
    torch.set_num_threads(1)
    figure, axes = plt.subplots(2, 3, figsize=(12, 6), constrained_layout=True)
    axes.flat[-1].remove()
    for axis, (name, (measure, along)) in zip(axes.flat, PLOTS.items(), strict=False):
        points = measure()
        print(f"{name}, CPU seconds by {along}: {', '.join(f'{x:,}: {y:.3g}' for x, y in points)}", flush=True)
        axis.plot(*zip(*points, strict=True), marker="o", color="#0072b2")
        axis.set(title=name, xlabel=along, ylabel="CPU seconds", ylim=(0, None), xlim=(0, None))
        axis.grid(alpha=0.3)
    plt.rcParams["svg.hashsalt"] = "growth"
    figure.savefig(given.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
