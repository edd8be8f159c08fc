"""Optuna and a plain loop in two processes, which share a study. Run: python plain_loop.py DATA MODEL [--keep]."""

import argparse
import multiprocessing
import tempfile
from pathlib import Path

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from recipe import CONFIGS, Images, epochs  # type: ignore[import-not-found]


def work(journal: str, data: Path, model: str, keep: bool) -> None:
    """Take configurations from the study until none is left."""
    torch.set_num_threads(1)
    images = Images(data, keep=keep)
    study = optuna.load_study(study_name="rival", storage=JournalStorage(JournalFileBackend(journal)))

    def objective(trial: optuna.Trial) -> float:
        config = CONFIGS[trial.suggest_int("config", 0, len(CONFIGS) - 1)]
        scores: list[float] = []
        for epoch, score in enumerate(epochs(config, model, images)):
            trial.report(score, epoch)
            scores.append(score)
        return scores[-1]

    while any(trial.state is optuna.trial.TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
        study.optimize(objective, n_trials=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("--keep", action="store_true", help="keep decoded images in memory")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        journal = f"{folder}/journal.log"
        storage = JournalStorage(JournalFileBackend(journal))
        study = optuna.create_study(study_name="rival", storage=storage, direction="maximize")
        for number in range(len(CONFIGS)):
            study.enqueue_trial({"config": number})
        context = multiprocessing.get_context("spawn")
        processes = [
            context.Process(target=work, args=(journal, given.data, given.model, given.keep)) for _ in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        for trial in study.trials[: len(CONFIGS)]:
            config = CONFIGS[trial.params["config"]]
            print(config["strategy"], config["lr"], f"{trial.value:.4f}")


if __name__ == "__main__":
    main()
