"""A run's folder: settings, log, weights and embeddings, all readable without this package."""

import csv
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from handclip_core.engine.phase import evaluation_points_of
from handclip_core.engine.state import Resume, Saved, save_tensors
from handclip_core.errors import InputError
from handclip_core.evaluation.embed import each_image_once, embed
from handclip_core.evaluation.forgetting import AspectSequence
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.hand_model import HandModel
from handclip_core.models.lora import restored
from handclip_core.paths import fault_of, plain_file, shown_path
from handclip_core.process_group import process_group
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.ensemble_file import is_ensemble
from handclip_core.runs.experiment import Experiment, Progress, assemble, built, context_of, score
from handclip_core.runs.model_file import model_files
from handclip_core.runs.validation import SEEN_ALL, VALIDATION_FILE, validation_file

CONFIG, METRICS, LOG, HISTORY = "config.json", "metrics.json", "training_log.csv", "history.json"
BEST, FINAL, OPTIMIZER = "handclip_best.pth", "handclip_final.pth", "handclip_optimizer.pth"
EPOCH, STAGE = "handclip_epoch_{}.pth", "handclip_stage_{}.pth"
CHECKPOINT = "checkpoint"
TRAIN_ACCURACY = "train_accuracy"
COUNTS = ("unit", "images", "phase", "train_s", "cpu_s", "peak_mib")
"""Columns of a log that say how far a run was, and what it took."""


@dataclass
class RunFolder:
    """The folder of one run; ``log`` has a row a budget unit.

    ``sequence`` is known once a run is finished that learned aspects one after another.
    """

    folder: Path
    experiment: Experiment
    log: list[dict[str, Any]] = field(default_factory=list)
    sequence: AspectSequence | None = None

    @classmethod
    def create(cls, folder: Path, experiment: Experiment) -> "RunFolder":
        """Start a new folder with its ``config.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / CONFIG, experiment.model_dump_json(indent=2))
        return cls(folder, experiment)

    @classmethod
    def reopen(cls, folder: Path, experiment: Experiment, checkpoint: Path) -> "RunFolder":
        """The folder as it was when ``checkpoint`` was saved."""
        run = cls.create(folder, experiment)
        run.log = read_log(checkpoint / LOG)
        if (checkpoint / BEST).exists():
            link(checkpoint / BEST, folder / BEST)
        return run

    @property
    def best(self) -> dict[str, Any]:
        """The log's row with the highest objective, the earliest of equals; at least one unit has been evaluated."""
        return max((row for row in self.log if self.objective in row), key=lambda row: row[self.objective])

    @property
    def scores(self) -> list[float]:
        """The objective of each unit that was evaluated."""
        return [row[self.objective] for row in self.log if self.objective in row]

    @property
    def evaluated(self) -> bool:
        """Whether any unit has been evaluated."""
        return any(self.objective in row for row in self.log)

    @property
    def out_of_patience(self) -> bool:
        """Whether the run has been validated as often since its best unit as the experiment waits for a better one."""
        if self.experiment.patience is None or not self.evaluated:
            return False
        since = sum(self.objective in row for row in self.log if row["unit"] > self.best["unit"])
        return since >= self.experiment.patience

    @property
    def objective(self) -> str:
        """Name of the metric that the best unit has the highest of."""
        return self.experiment.task.metrics.objective.name

    def add_unit(self, progress: Progress) -> None:
        """Log a unit, and keep its weights if its objective is the highest so far, or there is none to go by.

        They are kept beside those, and those of phases that ended, if the experiment says so.

        Of several processes that train one model, the first keeps the weights.
        """
        row = _row(progress)
        # The log comes last: if the weights cannot be written, all of this can be done again.
        better = progress.evaluated and (not self.evaluated or row[self.objective] > self.best[self.objective])
        better = better or self.experiment.part == "train_all"
        if better and process_group().rank == 0:
            save_tensors(progress.state.model.state_dict(), self.folder / BEST)
        every = self.experiment.keep_every
        if every is not None and progress.unit and progress.unit % every == 0 and process_group().rank == 0:
            save_tensors(progress.state.model.state_dict(), self.folder / EPOCH.format(progress.unit))
        if process_group().rank == 0:
            for phase, state in progress.stages.items():
                save_tensors(state, self.folder / STAGE.format(re.sub(r"\W+", "_", phase)))
        self.log.append(row)

    def save_checkpoint(self, into: Path, model: Saved, training: Saved) -> None:
        """Write into the folder ``into`` what ``restore`` needs, the log included; ``model`` is a state dict."""
        into.mkdir(parents=True, exist_ok=True)
        save_tensors(model, into / FINAL)
        save_tensors(training, into / OPTIMIZER)
        write_log(self.log, into / LOG)
        if (self.folder / BEST).exists():
            link(self.folder / BEST, into / BEST)

    def keep_checkpoint(self, save: Callable[[Path], None]) -> None:
        """Replace the folder's own checkpoint by what ``save`` writes into a folder.

        A kill at any moment leaves one that ``kept_checkpoint`` finds.
        """
        partial, old, current = (self.folder / f"{CHECKPOINT}{end}" for end in (".partial", ".old", ""))
        shutil.rmtree(partial, ignore_errors=True)
        save(partial)
        shutil.rmtree(old, ignore_errors=True)
        if current.exists():
            current.rename(old)
        partial.rename(current)
        shutil.rmtree(old, ignore_errors=True)

    def kept_checkpoint(self) -> Path | None:
        """The folder's own checkpoint, None if it has none."""
        found = (self.folder / name for name in (CHECKPOINT, f"{CHECKPOINT}.old"))
        return next((path for path in found if path.is_dir()), None)

    def drop_checkpoint(self) -> None:
        """Remove the folder's own checkpoint."""
        for end in (".partial", ".old", ""):
            shutil.rmtree(self.folder / f"{CHECKPOINT}{end}", ignore_errors=True)

    def finish(self, *, checkpoint: Path, device: torch.device) -> Evaluation | None:
        """Complete the folder from the run's last ``checkpoint``: weights, optimiser, log, metrics, embeddings.

        The task says which validation embeddings are kept: of identities ``query_embeddings.npy`` [Q, W] and
        ``gallery_embeddings.npy`` [G, W] of the first gallery split. ``metrics.json`` names their manifest rows.
        Returns the results of the best weights on the validation split; None if the run was trained on it.
        """
        for name in (FINAL, OPTIMIZER):
            link(checkpoint / name, self.folder / name)
        write_log(self.log, self.folder / LOG)
        write_json(self.folder / HISTORY, self.log)
        loaded, context = load_run(self.folder, device=device), context_of(self.experiment, device)
        with each_image_once(loaded):
            trained_on = self.experiment.part == "train_all"
            results = None if trained_on else score(context, loaded, context.pixel_inputs, "val")
            self._describe(loaded, context, results)
            rows = self._write_embeddings(loaded, context)
        state = Resume({}, load_tensors(checkpoint / OPTIMIZER))
        self.sequence = self._sequence(state.training["milestones"], device)
        sequence = {"sequence": self.sequence.values()} if self.sequence else {}
        best = {"best": self.best} if self.evaluated else {}
        metrics = {
            **best,
            "final": self.log[-1],
            **sequence,
            "precision": state.precision,
            "embedding_rows": rows,
        }
        write_json(self.folder / METRICS, metrics)
        return results

    def _sequence(self, evaluation_points: list[list[float]], device: torch.device) -> AspectSequence | None:
        """What learning aspects one after another did to each, if the run did that."""
        if not evaluation_points or not self.evaluated:
            return None
        context = context_of(self.experiment, device)
        return AspectSequence(evaluation_points_of(assemble(self.experiment, context).phases), evaluation_points)

    def _describe(self, model: HandModel, context: ExperimentContext, results: Evaluation | None) -> None:
        """Write what the weights need to be opened and used without the data."""
        known = SEEN_ALL if results is None else validation_file(results, model, context, context.pixel_inputs)
        texts = {**model_files(self.experiment, context), VALIDATION_FILE: known.model_dump_json(indent=2)}
        for name, text in texts.items():
            write_text(self.folder / name, text)

    def _write_embeddings(self, loaded: HandModel, context: ExperimentContext) -> dict[str, list[int]]:
        rows = {name: list(wanted) for name, wanted in context.evaluator("val").kept.items()}
        for name, wanted in rows.items():
            embeddings = embed(
                loaded,
                context.pixel_inputs,
                np.asarray(wanted, np.int64),
                aspects=context.aspect_indices,
                device=context.device,
            )
            np.save(self.folder / name, embeddings.numpy())
        return rows


def read_state(checkpoint: Path) -> Resume:
    """The state in a folder that ``save_checkpoint`` wrote; raises InputError if it is missing or damaged."""
    return Resume(model=load_tensors(checkpoint / FINAL), training=load_tensors(checkpoint / OPTIMIZER))


def read_experiment(folder: Path) -> Experiment:
    """The experiment of a run's folder; raises InputError if there is none, and for an ensemble, which has several."""
    if is_ensemble(folder):
        raise InputError(f"{shown_path(folder)}: is an ensemble, and this is for single runs; name one of its members'")
    return Experiment.from_file(folder / CONFIG)


def load_run(folder: Path, *, device: torch.device, weights: str = BEST) -> HandModel:
    """The trained model of a run's folder, in evaluation mode; its updates are merged if those of the weights are.

    Raises InputError for missing or damaged weights.
    """
    experiment = read_experiment(folder)
    model = built(experiment, context_of(experiment, device))
    try:
        return restored(model, load_tensors(folder / weights)).eval()
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder / weights}: not the weights of this folder's {CONFIG} ({reason})") from None


def load_tensors(path: Path) -> dict[str, Any]:
    """A file of plain tensors, loaded without running code; raises InputError if it is missing or damaged."""
    plain_file(path, missing="no such file; has the run finished?")
    fault = "nothing that torch has saved"
    try:
        # torch.save writes checksums, but torch.load does not look at them.
        with zipfile.ZipFile(path) as file:
            if (part := file.testzip()) is not None:
                fault = f"{part} differs from its checksum"
                raise ValueError
        fault = "not a mapping of names to tensors"
        values: object = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(values, dict):
            raise ValueError
    except Exception as error:
        # torch.load raises whatever its parts raise: zipfile, pickle, struct and its own errors among them.
        reason = fault_of(error) if isinstance(error, OSError) else f"damaged, or not a weight file ({fault})"
        raise InputError(f"{path}: {reason}") from None
    return values


def write_log(log: list[dict[str, Any]], path: Path) -> None:
    """Write the log as CSV, one row a unit."""
    write_text(path, pd.DataFrame(log).to_csv(index=False))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log that ``write_log`` wrote, every number as it was."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _number(text) for key, text in row.items() if text} for row in csv.DictReader(file)]


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def write_json(path: Path, values: Any) -> None:
    """Write ``values`` as JSON through a temporary name."""
    write_text(path, as_json(values))


def as_json(values: Any) -> str:
    """``values`` as strict JSON: what is no finite number, which JSON cannot hold, becomes null."""
    return json.dumps(_finite(values), indent=2, allow_nan=False)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def write_text(path: Path, text: str) -> None:
    """Write through a temporary name, so that readers see the old text or the new one."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """As ``write_text``."""
    temporary = path.with_name(f"{path.name}.partial")
    temporary.write_bytes(content)
    temporary.replace(path)


def is_training(name: str) -> bool:
    """Whether a column of a log is a loss, the accuracy on what is trained on, or a learning rate."""
    return name.startswith(("loss/", "lr/")) or name == TRAIN_ACCURACY


def measured(row: dict[str, Any]) -> dict[str, float]:
    """The validation metrics of a log's row."""
    return {name: value for name, value in row.items() if name not in COUNTS and not is_training(name)}


def _row(progress: Progress) -> dict[str, Any]:
    return {
        "unit": progress.unit,
        "images": progress.images,
        "phase": progress.phase or "none",
        "train_s": round(progress.train_s, 3),
        "cpu_s": round(progress.cpu_s, 3),
        "peak_mib": round(progress.peak_mib, 1),
        **progress.metrics,
        **{f"loss/{name}": value for name, value in progress.losses.items()},
        **({} if progress.accuracy is None else {TRAIN_ACCURACY: progress.accuracy}),
        **_highest_rates(progress.learning_rates),
    }


def _highest_rates(rates: dict[str, float]) -> dict[str, float]:
    """The highest rate of backbone, neck and head; layer-wise decay gives a backbone many."""
    highest: dict[str, float] = {}
    for name, rate in rates.items():
        top = f"lr/{name.split('.')[0]}"
        highest[top] = max(rate, highest.get(top, 0.0))
    return highest


def link(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` without copying if the file system can."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
