"""A sweep of ten fixed configurations beside what people write without this package, by the clock and in CPU seconds.

The same ten (linear probe, full fine-tuning, LoRA at several rates), four epochs each, on handclip-nano and 480 JPEGs
of 1600 x 1200 (320 training, 160 validation images of drawn hands), two at a time, one thread each. Rivals stand in
``benchmarks/rivals``: the ordinary recipe of Ray Tune, whose loader decodes every epoch; Optuna and a plain loop in
two processes, the same; and that loop with decoded images kept in memory. All take turns, this package from its
command to its prompt, with report, leaderboard, study and the winner exported. Processor time is that of all
processes, Ray's own among them, as the system counts it (Linux), read five times a second.

Run: python benchmarks/against_rivals.py [--rounds 3] [--drawn FOLDER] [--only "plain loop, images kept" ...]

Drawing 1,215 images of that size takes a quarter of an hour of two cores; ``--drawn`` keeps them for the next run.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from handclip_core.data.sources import DrawnData, open_data
from handclip_core.models.names import NANO, folder_of

HERE = Path(__file__).resolve().parent
DATA = DrawnData(people=48, images_per_aspect=5, sittings=5, height_px=1200)
POINTS = [
    *({"strategy": "linear_probe", "optim/lr": rate} for rate in (3e-3, 3e-4, 1e-2)),
    # Of a tower of ViT-B/16's size, as the settings count rates: 27 times as much here.
    *({"strategy": "full", "optim/lr": rate} for rate in (3.7e-6, 1.85e-5, 1.85e-6)),
    {"strategy": "lora", "optim/lr": 3e-4},
]
OURS = "this package"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Taken:
    """Seconds by the clock, and of all processes."""

    wall_s: float
    cpu_s: float


def taken_by(command: Sequence[str], folder: Path) -> Taken:
    """Run ``command`` and count what it and all that it starts take; raises CalledProcessError if it fails."""
    used: dict[tuple[int, str], float] = {}
    with (folder / "output").open("w") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env=os.environ)
        while process.poll() is None:
            used |= dict(_below(process.pid))
            time.sleep(0.2)
    wall_s = time.monotonic() - started
    if process.returncode:
        print((folder / "output").read_text()[-2000:], file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    return Taken(wall_s, sum(used.values()))


def _below(root: int) -> Iterator[tuple[tuple[int, str], float]]:
    """Every process at or below ``root``, by number and start, with its processor time so far."""
    found: dict[int, tuple[int, str, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        found[int(path.parent.name)] = (int(fields[1]), fields[19], (int(fields[11]) + int(fields[12])) / TICKS)
    ours = [root]
    for parent in ours:
        ours += [pid for pid, (above, _, _) in found.items() if above == parent]
    yield from (((pid, found[pid][1]), found[pid][2]) for pid in ours if pid in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--drawn", type=Path, help="where drawn images are kept; a temporary folder if not given")
    parser.add_argument("--only", nargs="+", metavar="RIVAL", help="some of the rivals, by the names in the table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hc-rivals-") as text:
        folder = Path(text)
        cache = given.drawn.absolute() if given.drawn else folder / "cache"
        os.environ |= {"HANDCLIP_CACHE": str(cache), "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
        data, model = open_data(DATA, cache=cache).folder, str(folder_of(NANO))
        settings = {
            "name": "sweep",
            "data": DATA.model_dump(mode="json"),
            "strategies": ["linear_probe", "full", "lora"],
            "trials": 3 + len(POINTS),
            "budget": 4,
            "search": {"points": POINTS},
            "early_stopping": {"kind": "none"},
            "resources": {"concurrent": 2},
        }
        (folder / "sweep.yaml").write_text(yaml.safe_dump(settings))
        loop = [sys.executable, str(HERE / "rivals" / "plain_loop.py"), str(data), model]
        commands = {
            OURS: [sys.executable, str(HERE.parent / "tune_jobs" / "sweep.py"), "sweep.yaml"],
            "plain loop, images kept": [*loop, "--keep"],
            "plain loop": loop,
            "Ray Tune's recipe": [sys.executable, str(HERE / "rivals" / "ray_tune.py"), str(data), model],
            "import torch, open_clip": [sys.executable, "-c", "import torch, open_clip"],
        }
        if unknown := set(given.only or ()) - commands.keys():
            parser.error(f"--only: no rival is called {unknown.pop()!r}; choose from {', '.join(commands)}")
        wanted = commands.keys() if given.only is None else {OURS, *given.only}
        commands = {name: command for name, command in commands.items() if name in wanted}
        times: dict[str, list[Taken]] = {name: [] for name in commands}
        for number in range(given.rounds):
            for name, command in commands.items():
                shutil.rmtree(folder / "runs", ignore_errors=True)
                times[name].append(taken_by(command, folder))
                print(f"{number + 1}: {name}: {times[name][-1]}", flush=True)
        ours = times.pop(OURS)
        print("\n| beside | wall, s | ours / theirs | CPU, s | ours / theirs |\n|---|---:|---:|---:|---:|")
        mean = Taken(statistics.median(t.wall_s for t in ours), statistics.median(t.cpu_s for t in ours))
        print(f"| {OURS} | {mean.wall_s:.1f} | | {mean.cpu_s:.1f} | |")
        for name, taken in times.items():
            wall, cpu = (statistics.median(getattr(t, field) for t in taken) for field in ("wall_s", "cpu_s"))
            print(f"| {name} | {wall:.1f} | {mean.wall_s / wall:.2f} | {cpu:.1f} | {mean.cpu_s / cpu:.2f} |")


if __name__ == "__main__":
    main()
