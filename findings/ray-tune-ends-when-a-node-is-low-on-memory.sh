#!/usr/bin/env bash
# Ray Tune 2.60.0, Linux: a worker that Ray's memory monitor kills ends the whole run, not its trial.
# One would guess: the trial counts as failed and is tried again, as after any lost worker (max_failures).
# Seen: the pending call fails with OutOfMemoryError, which is no RayActorError, so Tune's actor manager raises
#   RuntimeError: Caught unexpected exception: 1 worker(s) were killed due to the node running low on memory. ...
# out of tune.run, in spite of max_failures=5 and raise_on_failed_trial=False.
# How: Ray may use 2 GiB more than now, and one worker takes that on its first attempt alone. Needs 6 GiB free.
set -euo pipefail
export RAY_AIR_NEW_OUTPUT=0 RAY_USAGE_STATS_ENABLED=0
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "ray[tune]==2.60.0"
cat >"$folder/run.py" <<'PYTHON'
import logging, os, sys, time
from pathlib import Path
import ray
from ray import tune
from ray.exceptions import OutOfMemoryError, RayActorError

GIB = 2**30
lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
kib = {name: int(rest[0]) for name, *rest in lines}
total, free = kib["MemTotal:"] * 1024, kib["MemAvailable:"] * 1024
if free < 6 * GIB:
    sys.exit("6 GiB of free memory are needed")
here = Path(sys.argv[1])


class Trial(tune.Trainable):
    def step(self):
        if not (here / "taken").exists():
            (here / "taken").touch()
            held = [bytearray(b"x") * (GIB // 4) for _ in range(16)]
            time.sleep(30)
        return {"score": 1, "done": True}

    def save_checkpoint(self, folder):
        pass


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
         _temp_dir=str(here / "r"), _system_config={"memory_usage_threshold": (total - free + 2 * GIB) / total})
logging.disable(logging.CRITICAL)
try:
    tune.run(Trial, max_failures=5, raise_on_failed_trial=False, verbose=0, storage_path=str(here / "results"))
    found = "tune.run came to its end"
except Exception as error:
    found = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
print(found)
print("OutOfMemoryError is a RayActorError:", issubclass(OutOfMemoryError, RayActorError))
ray.shutdown()
ends = "RuntimeError: Caught unexpected exception: " in found and "low on memory" in found
sys.exit(0 if ends and not issubclass(OutOfMemoryError, RayActorError) else "this has changed")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder"
