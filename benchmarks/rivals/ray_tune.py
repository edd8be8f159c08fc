"""The ordinary recipe of Ray Tune: a function, a data loader that decodes.

Run: python ray_tune.py DATA MODEL CONFIGS EPOCHS, where CONFIGS are [{"strategy": "full", "lr": 1e-4}, ...].
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler


def train(config: dict[str, Any]) -> None:
    """A trial; its process imports what it needs."""
    import sys

    sys.path.insert(0, config["here"])
    import torch
    from recipe import Images, epochs, image_px  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    images = Images(Path(config["data"]), image_px(config["model"]), keep=False)
    for score in epochs(config["config"], config["model"], images, config["epochs"]):
        tune.report({"map": score})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("configs", type=json.loads)
    parser.add_argument("epochs", type=int)
    given = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    space = {
        "config": tune.grid_search(given.configs),
        "epochs": given.epochs,
        "data": str(given.data.resolve()),
        "model": given.model,
        "here": str(Path(__file__).resolve().parent),
    }
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="map", mode="max", scheduler=ASHAScheduler(grace_period=given.epochs, max_t=given.epochs)
        ),
        run_config=tune.RunConfig(verbose=0, storage_path=str(Path.cwd() / "ray_results")),
    )
    for result in tuner.fit():
        print(result.config["config"], f"{result.metrics['map']:.4f}")


if __name__ == "__main__":
    main()
