#!/usr/bin/env bash
# Ray Tune 2.60.0: one report without the searcher's metric ends the whole run, though a later one has it.
# One would guess: a searcher needs its metric at a trial's end, and a report that lacks it fails that trial at most.
# Seen: the check looks at every single report, and it raises in the controller:
#   TuneError: ... Trial returned a result which did not include the specified metric(s) `score` that `SearchGenerator` expects
# out of tune.run, in spite of raise_on_failed_trial=False and max_failures.
# A trial that warms up first (prompts, queues, a frozen stage) is such a case. A searcher without a metric is not checked.
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


class Two(Searcher):
    left = 2

    def suggest(self, trial_id):
        if self.left == 0:
            return Searcher.FINISHED
        self.left -= 1
        return {"x": self.left}

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass


class Trial(tune.Trainable):
    def step(self):
        return {"loss": 0.1} if self.iteration == 0 else {"score": 1, "done": True}

    def save_checkpoint(self, folder):
        pass


def outcome(searcher):
    try:
        done = tune.run(Trial, search_alg=searcher, num_samples=-1, max_failures=5, raise_on_failed_trial=False,
                        verbose=0, storage_path=str(here / "results"))
        return f"tune.run came to its end, trials: {sorted(trial.status for trial in done.trials)}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:130]}"


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
         _temp_dir=str(here / "r"))
logging.disable(logging.CRITICAL)
with_metric, without = outcome(Two(metric="score", mode="max")), outcome(Two())
print("searcher with a metric:    ", with_metric)
print("searcher without a metric: ", without)
ray.shutdown()
as_seen = with_metric.startswith("TuneError") and "did not include the specified metric" in with_metric
sys.exit(0 if as_seen and without.endswith("['TERMINATED', 'TERMINATED']") else "this has changed")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder"
