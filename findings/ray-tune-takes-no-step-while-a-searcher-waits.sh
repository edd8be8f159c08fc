#!/usr/bin/env bash
# Ray Tune 2.60.0: while a searcher says "nothing now" and no trial runs, Tune takes no step, so callbacks hear nothing.
# One would guess: the loop goes on, asks the searcher once a step, and calls on_step_begin and on_step_end meanwhile.
# Seen: it asks once a second inside one and the same step, for up to 600 s: six answers of None, 0 calls of on_step_end.
# What a callback does every now and then (notice signals, poll a cluster, draw a table) stands still; a searcher that
# waits for machines has to do that itself, in suggest().
set -euo pipefail
export RAY_AIR_NEW_OUTPUT=0 RAY_USAGE_STATS_ENABLED=0
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "ray[tune]==2.60.0"
cat >"$folder/run.py" <<'PYTHON'
import logging, sys
from pathlib import Path
import ray
from ray import tune
from ray.tune.search import Searcher

here = Path(sys.argv[1])
heard = []


class Waiting(Searcher):
    asked = 0

    def suggest(self, trial_id):
        self.asked += 1
        heard.append("asked")
        if self.asked <= 6:
            return None
        return {"x": 1} if self.asked == 7 else Searcher.FINISHED

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass


class Listening(tune.Callback):
    def on_step_end(self, iteration, trials, **info):
        heard.append("step")


class Trial(tune.Trainable):
    def step(self):
        return {"score": 1, "done": True}

    def save_checkpoint(self, folder):
        pass


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
         _temp_dir=str(here / "r"))
logging.disable(logging.CRITICAL)
tune.run(Trial, search_alg=Waiting(), num_samples=-1, callbacks=[Listening()], verbose=0,
         storage_path=str(here / "results"))
ray.shutdown()
first, last = heard.index("asked"), [place for place, what in enumerate(heard) if what == "asked"][5]
steps = heard[first:last].count("step")
print(f"steps between the first and the sixth answer of None: {steps}")
sys.exit(0 if steps == 0 else "this has changed")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder"
