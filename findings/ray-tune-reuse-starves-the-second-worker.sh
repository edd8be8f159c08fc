#!/usr/bin/env bash
# Ray Tune 2.60.0: with reuse_actors=True a second worker may never come up while trials are shorter than its start.
# One would guess: with two places two workers are started, and from then on each runs every other trial.
# Seen: whenever the first worker is free, Tune gives it to the trial for which the second is being started, and removes
# the one that starts. Twelve trials of 1 s on two processors, whose workers take 6 s to start but for the first one: one
# process ran all twelve. The script allows it two fewer.
set -euo pipefail
export RAY_AIR_NEW_OUTPUT=0 RAY_USAGE_STATS_ENABLED=0
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "ray[tune]==2.60.0"
cat >"$folder/run.py" <<'PYTHON'
import collections, logging, os, sys, time
from pathlib import Path
import ray
from ray import tune

here = Path(sys.argv[1])


class Trial(tune.Trainable):
    def setup(self, config):
        first = here / "first"
        try:
            first.touch(exist_ok=False)
        except FileExistsError:
            time.sleep(6)

    def reset_config(self, config):
        return True

    def step(self):
        time.sleep(1)
        return {"process": os.getpid(), "done": True}

    def save_checkpoint(self, folder):
        pass


ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
         _temp_dir=str(here / "r"))
logging.disable(logging.CRITICAL)
done = tune.run(Trial, num_samples=12, reuse_actors=True, resources_per_trial={"cpu": 1}, verbose=0,
                storage_path=str(here / "results"))
ray.shutdown()
counts = collections.Counter(trial.last_result["process"] for trial in done.trials)
print("trials of each process:", sorted(counts.values(), reverse=True))
sys.exit(0 if max(counts.values()) >= 10 else "this has changed")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder"
