"""A sweep of fixed configurations beside what people write without this package, by the clock and in CPU seconds.

``nano``: ten configurations (linear probe, full fine-tuning, LoRA at several rates), four epochs each, on handclip-nano
and 480 JPEGs of 1600 x 1200 (320 training, 160 validation images of drawn hands). ``vit``: three (a linear probe, full
at two rates), one epoch each, on a ViT-B/32 of random weights and 96 training images. Two at a time, one thread each.
Rivals stand in ``benchmarks/rivals``: the ordinary recipe of Ray Tune, whose loader decodes every epoch; Optuna and a
plain loop in two processes, the same; and that loop with decoded images kept in memory. All take turns, this package
from its command to its prompt, with report, leaderboard, study and the winner exported. Processor time is that of all
processes, Ray's own among them, as the system counts it (Linux), read five times a second.

Run: python benchmarks/against_rivals.py [nano|vit] [--rounds 3] [--drawn FOLDER] [--only "plain loop, images kept" ...]

Drawing the 1,215 images of ``nano`` takes a quarter of an hour of two cores; ``--drawn`` keeps them for the next run.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import yaml

from handclip_core.data.sources import DrawnData, open_data
from handclip_core.models.names import CONFIG_FILE, LOCAL_FOLDER, NANO, folder_of
from tune_jobs.state.events import Ended
from tune_jobs.state.journal import FILE, read_journal

HERE = Path(__file__).resolve().parent
OURS, KEPT, LOOP, RAY = "this package", "plain loop, images kept", "plain loop", "Ray Tune's recipe"
IMPORT = "import torch, open_clip"
TICKS = os.sysconf("SC_CLK_TCK")
VIT = "ViT-B-32"


@dataclass(frozen=True)
class Job:
    """What all train: ``configs`` for ``epochs`` each; the ``defaults`` first ones of ours are points of none."""

    data: DrawnData
    configs: tuple[Mapping[str, Any], ...]
    epochs: int
    points: tuple[Mapping[str, Any], ...]
    """The configurations after the defaults of the strategies, as this package counts rates."""

    @property
    def strategies(self) -> list[str]:
        """Their strategies, each once."""
        return list(dict.fromkeys(config["strategy"] for config in self.configs))


JOBS = {
    "nano": Job(
        DrawnData(people=48, images_per_aspect=5, sittings=5, height_px=1200),
        tuple(
            {"strategy": name, "lr": rate}
            for name, rate in (
                ("linear_probe", 1e-3),
                ("full", 2.7e-4),
                ("lora", 1e-3),
                ("linear_probe", 3e-3),
                ("full", 1e-4),
                ("lora", 3e-4),
                ("linear_probe", 3e-4),
                ("full", 5e-4),
                ("linear_probe", 1e-2),
                ("full", 5e-5),
            )
        ),
        4,
        (
            *({"strategy": "linear_probe", "optim/lr": rate} for rate in (3e-3, 3e-4, 1e-2)),
            # Of a tower of ViT-B/16's size, as the settings count rates: 27 times as much here.
            *({"strategy": "full", "optim/lr": rate} for rate in (3.7e-6, 1.85e-5, 1.85e-6)),
            {"strategy": "lora", "optim/lr": 3e-4},
        ),
    ),
    "vit": Job(
        DrawnData(people=26, images_per_aspect=3, sittings=3, height_px=600),
        tuple(
            {"strategy": name, "lr": rate} for name, rate in (("linear_probe", 1e-3), ("full", 1e-5), ("full", 3e-6))
        ),
        1,
        ({"strategy": "full", "optim/lr": 3e-6},),
    ),
}


@dataclass(frozen=True)
class Taken:
    """Seconds by the clock, and of all processes; of ours also to the first finished trial, and from the last one."""

    wall_s: float
    cpu_s: float
    first_s: float = nan
    last_s: float = nan


def taken_by(command: Sequence[str], folder: Path) -> Taken:
    """Run ``command`` and count what it and all that it starts take; raises CalledProcessError if it fails."""
    used: dict[tuple[int, str], float] = {}
    with (folder / "output").open("w") as output:
        began, started = time.time(), time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env=os.environ)
        while process.poll() is None:
            used |= dict(_below(process.pid))
            time.sleep(0.2)
    wall_s = time.monotonic() - started
    if process.returncode:
        print((folder / "output").read_text()[-2000:], file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    journal = folder / "runs" / "sweep" / FILE
    ends = [event.at - began for event in read_journal(journal) if isinstance(event, Ended)] if journal.exists() else []
    first_s, last_s = (ends[0], wall_s - ends[-1]) if ends else (nan, nan)
    return Taken(wall_s, sum(used.values()), first_s, last_s)


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


def model_of(name: str, cache: Path) -> Path:
    """The folder of the model of a job: handclip-nano's, or a ViT-B/32 with random weights, made once."""
    if name == "nano":
        folder = folder_of(NANO)
        assert folder is not None, "it comes with the package"
        return folder
    folder = cache / "benchmark-models" / VIT
    if not folder.exists():
        import open_clip
        from safetensors.torch import save_file

        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as text:
            clip = open_clip.create_model(VIT, force_custom_text=True)
            weights = {key: value.contiguous() for key, value in clip.state_dict().items()}
            save_file(weights, Path(text) / "open_clip_model.safetensors", metadata={"format": "pt"})
            about = {"model_cfg": open_clip.get_model_config(VIT), "preprocess_cfg": {}}
            about["model_cfg"]["custom_text"] = True
            (Path(text) / CONFIG_FILE).write_text(json.dumps(about))
            shutil.copytree(text, folder)
    return folder


def race(name: str, rounds: Mapping[str, int], cache: Path, say: bool = True) -> dict[str, list[Taken]]:
    """Run a job by all whose name is in ``rounds``, in turns, each so many times."""
    job = JOBS[name]
    model = model_of(name, cache)
    settings = {
        "name": "sweep",
        "data": job.data.model_dump(mode="json"),
        "backbone": {"name": NANO if name == "nano" else f"{LOCAL_FOLDER}{model}"},
        "strategies": job.strategies,
        "trials": len(job.configs),
        "budget": job.epochs,
        "search": {"points": list(job.points)},
        "early_stopping": {"kind": "none"},
        "resources": {"concurrent": 2},
    }
    os.environ |= {"HANDCLIP_CACHE": str(cache), "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    data = open_data(job.data, cache=cache).folder
    what = [str(data), str(model), json.dumps(job.configs), str(job.epochs)]
    loop = [sys.executable, str(HERE / "rivals" / "plain_loop.py"), *what]
    commands = {
        OURS: [sys.executable, str(HERE.parent / "tune_jobs" / "sweep.py"), "sweep.yaml"],
        KEPT: [*loop, "--keep"],
        LOOP: loop,
        RAY: [sys.executable, str(HERE / "rivals" / "ray_tune.py"), *what],
        IMPORT: [sys.executable, "-c", "import torch, open_clip"],
    }
    times: dict[str, list[Taken]] = {one: [] for one in commands if one in rounds}
    with tempfile.TemporaryDirectory(prefix="hc-rivals-") as text:
        folder = Path(text)
        (folder / "sweep.yaml").write_text(yaml.safe_dump(settings))
        for number in range(max(rounds.values())):
            for one, taken in times.items():
                if number >= rounds[one]:
                    continue
                shutil.rmtree(folder / "runs", ignore_errors=True)
                taken.append(taken_by(commands[one], folder))
                if say:
                    print(f"{number + 1}: {one}: {taken[-1]}", file=sys.stderr, flush=True)
    return times


def medians(times: Sequence[Taken]) -> Taken:
    """Of each figure."""
    fields = ("wall_s", "cpu_s", "first_s", "last_s")
    return Taken(*(statistics.median(getattr(taken, field) for taken in times) for field in fields))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", nargs="?", choices=JOBS, default="nano")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--drawn", type=Path, help="where drawn images are kept; a temporary folder if not given")
    parser.add_argument("--only", nargs="+", metavar="RIVAL", help="some of the rivals, by the names in the table")
    given = parser.parse_args()
    rivals = (KEPT, LOOP, RAY, IMPORT)
    if unknown := set(given.only or ()) - {*rivals}:
        parser.error(f"--only: no rival is called {unknown.pop()!r}; choose from {', '.join(rivals)}")
    with tempfile.TemporaryDirectory(prefix="hc-drawn-") as text:
        cache = given.drawn.absolute() if given.drawn else Path(text)
        rounds = dict.fromkeys((OURS, *(given.only or rivals)), given.rounds)
        found = {name: medians(times) for name, times in race(given.job, rounds, cache).items()}
    ours = found.pop(OURS)
    print("\n| beside | wall, s | ours / theirs | CPU, s | ours / theirs |\n|---|---:|---:|---:|---:|")
    print(f"| {OURS} | {ours.wall_s:.1f} | | {ours.cpu_s:.1f} | |")
    for name, taken in found.items():
        walls, cpus = ours.wall_s / taken.wall_s, ours.cpu_s / taken.cpu_s
        print(f"| {name} | {taken.wall_s:.1f} | {walls:.2f} | {taken.cpu_s:.1f} | {cpus:.2f} |")
    print(f"\nthis package: first finished trial {ours.first_s:.1f} s, last trial to prompt {ours.last_s:.1f} s")


if __name__ == "__main__":
    main()
