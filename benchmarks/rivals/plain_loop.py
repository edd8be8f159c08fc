"""Optuna and a plain loop in two processes, which share a study.

Run: python plain_loop.py DATA MODEL CONFIGS EPOCHS [--keep], where CONFIGS are [{"strategy": "full", "lr": 1e-4}, ...].
"""

import argparse
import json
import multiprocessing
import tempfile
from pathlib import Path

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from recipe import Config, Images, epochs, image_px  # type: ignore[import-not-found]


def work(journal: str, data: Path, model: str, configs: list[Config], num: int, keep: bool) -> None:
    """Take configurations from the study until none is left."""
    torch.set_num_threads(1)
    images = Images(data, image_px(model), keep=keep)
    study = optuna.load_study(study_name="rival", storage=JournalStorage(JournalFileBackend(journal)))

    def objective(trial: optuna.Trial) -> float:
        config = configs[trial.suggest_int("config", 0, len(configs) - 1)]
        scores: list[float] = []
        for epoch, score in enumerate(epochs(config, model, images, num)):
            trial.report(score, epoch)
            scores.append(score)
        return scores[-1]

    while any(trial.state is optuna.trial.TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
        study.optimize(objective, n_trials=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("configs", type=json.loads)
    parser.add_argument("epochs", type=int)
    parser.add_argument("--keep", action="store_true", help="keep decoded images in memory")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        journal = f"{folder}/journal.log"
        storage = JournalStorage(JournalFileBackend(journal))
        study = optuna.create_study(study_name="rival", storage=storage, direction="maximize")
        for number in range(len(given.configs)):
            study.enqueue_trial({"config": number})
        context = multiprocessing.get_context("spawn")
        processes = [
            context.Process(
                target=work, args=(journal, given.data, given.model, given.configs, given.epochs, given.keep)
            )
            for _ in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        for trial in study.trials[: len(given.configs)]:
            config = given.configs[trial.params["config"]]
            print(config["strategy"], config["lr"], f"{trial.value:.4f}")


if __name__ == "__main__":
    main()
