"""Every claim of speed, measured in one run beside its rival or its limit: ``make bench``.

Prints ``claim, ours, rival or limit, ratio, target``, appends the same to ``benchmarks/results.csv`` with machine and
commit, and keeps the raw samples in a folder of the run, ``benchmarks/samples/TIME-COMMIT``, which is never written to
again. Each claim has a process of its own. On two quiet cores it takes some 25 minutes, the first time longer: what is
drawn stays in the cache. A claim that fails is said, and the others go on; then the exit is 1.

Run: python -m benchmarks.bench [--only CLAIM ...] [--cache FOLDER]
"""

import argparse
import csv
import datetime
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS, SAMPLES = HERE / "results.csv", HERE / "samples"
COLUMNS = ("time", "commit", "machine", "claim", "ours", "unit", "beside", "other", "ratio", "target", "met")


def machine() -> str:
    """Processor and cores."""
    import torch

    from handclip_core.runs.precision import has_bfloat16

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    bits = " with bfloat16" if has_bfloat16() else ""
    return f"{os.cpu_count()} cores of {(names or [platform.machine()])[0]}{bits}, torch {torch.__version__}"


def commit() -> str:
    """What git calls the tree, with a mark if it was changed since."""
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=10"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def measure(claim: str, cache: Path, into: Path) -> None:
    """Measure one claim in this process, and write its rows."""
    import torch

    from benchmarks.claims import CLAIMS

    torch.set_num_threads(1)
    rows = [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in CLAIMS[claim](cache)]
    (into / f"{claim}.json").write_text(json.dumps(rows, indent=2))


def line(row: dict[str, object]) -> str:
    """A row of the table."""

    def figure(value: object) -> str:
        return f"{value:,.3g}" if isinstance(value, float | int) and abs(value) < 1000 else f"{value:,.0f}"

    other = "" if row["other"] is None else f"{figure(row['other'])} ({row['beside']})"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    sign = {True: "<=", False: ">="}[bool(row["most"])]
    target = "" if row["target"] is None else f"{sign} {row['target']:g}{' (met)' if row['met'] else ''}"
    return f"| {row['claim']} | {figure(row['ours'])} {row['unit']} | {other} | {ratio} | {target} |"


def main() -> int:
    from handclip_core.paths import cache_root

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="CLAIM")
    parser.add_argument("--cache", type=Path, default=cache_root() / "bench", help="where drawn images are kept")
    parser.add_argument("--measure", metavar="CLAIM", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    cache = given.cache.absolute()
    if given.measure:
        measure(given.measure, cache, given.into)
        return 0
    from benchmarks.claims import CLAIMS

    if unknown := set(given.only or ()) - CLAIMS.keys():
        parser.error(f"--only: no claim is called {unknown.pop()!r}; choose from {', '.join(CLAIMS)}")
    now, tree = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ"), commit()
    into = SAMPLES / f"{now}-{tree}"
    into.mkdir(parents=True)
    cache.mkdir(parents=True, exist_ok=True)
    about, failed = {"time": now, "commit": tree, "machine": machine()}, []
    (into / "run.json").write_text(json.dumps(about, indent=2))
    print(f"{about['machine']}, commit {tree}\n\n| claim | ours | rival or limit | ratio | target |")
    print("|---|---:|---:|---:|---:|", flush=True)
    for claim in given.only or CLAIMS:
        words = [
            sys.executable,
            "-m",
            "benchmarks.bench",
            "--measure",
            claim,
            "--into",
            str(into),
            "--cache",
            str(cache),
        ]
        done = subprocess.run(words, cwd=HERE.parent, check=False, env=_environment(cache))
        if done.returncode:
            failed.append(claim)
            continue
        rows = json.loads((into / f"{claim}.json").read_text())
        with RESULTS.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(about | row for row in rows)
        print("\n".join(map(line, rows)), flush=True)
    print(f"\nraw samples: {into.relative_to(HERE.parent)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _environment(cache: Path) -> dict[str, str]:

    return {**os.environ, "HANDCLIP_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}


if __name__ == "__main__":
    sys.exit(main())
