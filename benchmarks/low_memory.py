"""A sweep on a node that runs out of memory again and again, beside the same sweep left in peace.

A process of another owner takes memory every PERIOD seconds until Ray kills a worker, and lets go of it. One trial at a
time, so that both sweeps draw the same settings; wanted: no trial failed, and the leaderboards are equal.
Run: python benchmarks/low_memory.py [--trials 60] [--period 45] [--spare 6] [--strategies linear_probe,clip_reid]
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tune_jobs.state.events import Moved, Retried
from tune_jobs.state.journal import FILE, read_journal

ROOT = Path(__file__).parents[1]
NOT_COMPARED = ("seconds", "attempts")
STEP = 2**28


def memory_gib() -> tuple[float, float]:
    """The whole memory of this machine, and how much of it is in use."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    found = {name: float(rest[0]) / 2**20 for name, *rest in lines}
    return found["MemTotal:"], found["MemTotal:"] - found["MemAvailable:"]


def sweep(storage: Path, given: argparse.Namespace, environment: dict[str, str]) -> tuple[int, float]:
    """Run the sweep; its exit code and seconds."""
    settings = [f"strategies=[zero_shot,{given.strategies}]", "data.people=14", f"budget={given.budget}"]
    settings += [f"trials={given.trials}", f"storage={storage}", "resources.concurrent=1", "checkpoint_every_s=0"]
    command = [sys.executable, str(ROOT / "tune_jobs" / "sweep.py"), "--name", "swept"]
    began = time.monotonic()
    with (storage.parent / f"{storage.name}.log").open("w") as log:
        done = subprocess.run(
            [*command, *(part for each in settings for part in ("--set", each))],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
            check=False,
        )
    return done.returncode, time.monotonic() - began


def take_now_and_then(wanted_gib: float, period_s: float, ended: threading.Event) -> None:
    """Fill the memory up to ``wanted_gib`` in use for half a second, in a process that Ray does not know."""
    code = (
        "import time\nfrom benchmarks.low_memory import STEP, memory_gib\nheld, end = [], time.monotonic() + 10\n"
        f"while memory_gib()[1] < {wanted_gib} and time.monotonic() < end:\n    held.append(bytearray(b'x') * STEP)\n"
        "time.sleep(0.5)\n"
    )
    while not ended.wait(period_s):
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)


def board(storage: Path) -> list[dict[str, str]]:
    """The leaderboard without what it took."""
    with (storage / "swept" / "leaderboard.csv").open() as file:
        return [{key: row[key] for key in row if key not in NOT_COMPARED} for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--period", type=float, default=45.0)
    parser.add_argument("--spare", type=float, default=6.0)
    parser.add_argument("--strategies", default="linear_probe,full,clip_reid")
    parser.add_argument("--budget", type=int, default=4)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="low-memory-"))
    for name in ("calm", "disturbed"):
        (folder / name).mkdir()
    calm = sweep(folder / "calm", given, {})
    total, used = memory_gib()
    allowed, ended = used + given.spare, threading.Event()
    other = threading.Thread(target=take_now_and_then, args=(allowed + 0.3, given.period, ended))
    other.start()
    disturbed = sweep(folder / "disturbed", given, {"RAY_memory_usage_threshold": str(allowed / total)})
    ended.set()
    other.join()
    events = read_journal(folder / "disturbed" / "swept" / FILE)
    killed = Counter(event.trial for event in events if isinstance(event, Moved | Retried) and "memory" in event.reason)
    rows = board(folder / "disturbed")
    print("sweep,exit code,seconds,workers killed,trials hit,trials failed")
    print(f"calm,{calm[0]},{calm[1]:.0f},0,0,0")
    failed = sum(row["status"].startswith("failed") for row in rows)
    print(f"disturbed,{disturbed[0]},{disturbed[1]:.0f},{killed.total()},{len(killed)},{failed}")
    print("leaderboards are equal" if rows == board(folder / "calm") else "LEADERBOARDS DIFFER", folder)


if __name__ == "__main__":
    main()
