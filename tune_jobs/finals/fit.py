"""One run of the finals, in a worker process that stays warm: the whole budget on one seed, then its scores."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from handclip_core.config import read_yaml
from handclip_core.devices import select_device
from handclip_core.engine.optim import choose
from handclip_core.errors import InputError
from handclip_core.evaluation.metrics import OBJECTIVE
from handclip_core.evaluation.storage import save_scores
from handclip_core.runs.context import Bench, open_bench
from handclip_core.runs.drive import Drive, Report, drive
from handclip_core.runs.experiment import Experiment, assemble, score
from handclip_core.runs.run_folder import BEST, FINAL, LOG, RunFolder, read_experiment, write_json, write_log
from handclip_core.runs.soups import Ingredient, wise_scores
from tune_jobs.finals.candidates import Finalist, without_chance

FACTS, SCORES = "run.json", "scores.npz"
SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class Facts:
    """What a run of the finals has to tell beside its scores: written last, so it marks a run that is complete.

    ``map`` and ``cmc1`` are those after the last unit, ``peak_map`` is the highest of any unit, that of ``peak_unit``.
    ``train_s`` is the time of training ``images`` pictures, validation not counted.
    """

    manifest_hash: str
    map: float
    cmc1: float
    peak_map: float
    peak_unit: int
    units: int
    images: int
    train_s: float
    params_trained: int


def read_facts(folder: Path, finalist: Finalist, *, manifest_hash: str) -> Facts | None:
    """The facts of a complete run, None where it is not complete; raises InputError for other data or settings."""
    if not (folder / FACTS).exists():
        return None
    facts = Facts(**read_yaml(folder / FACTS))
    if facts.manifest_hash != manifest_hash:
        raise InputError(f"{folder}: is of other data than the sweep has now; remove this folder to run it again")
    if without_chance(read_experiment(folder)) != without_chance(finalist.experiment):
        raise InputError(f"{folder}: is of other settings than its name says; remove this folder to run it again")
    return facts


def wise_file(alpha: float) -> str:
    """Name of the file of a run's scores where ``alpha`` of its weights is mixed with the untrained ones."""
    return f"wise-{alpha:g}.npz"


def finals_run(folder: str, experiment: dict[str, Any], device: str, threads: int) -> None:
    """Run ``experiment`` (as plain data) into ``folder``, or what is left of it, and score it on validation people."""
    torch.set_num_threads(threads)
    chosen, where = Experiment.model_validate(experiment), select_device(device)
    driven, last = train_to_the_end(Path(folder), chosen, where)
    bench = open_bench(chosen.data, chosen.backbone, where)
    facts = _score(driven, last, bench)
    for alpha, scores in wise_scores(Ingredient("", chosen, Path(folder) / FINAL), device=where).items():
        save_scores(Path(folder) / wise_file(alpha), scores)
    write_json(Path(folder) / FACTS, asdict(facts))


def train_to_the_end(folder: Path, experiment: Experiment, device: torch.device) -> tuple[Drive, Report]:
    """Train the whole budget, from the folder's checkpoint if there is one; leaves the log and the last weights.

    Returns the run at its end, and its last report.
    """
    driven = drive(experiment, folder, device=device, resume=RunFolder(folder, experiment).kept_checkpoint())
    last, saved_at = None, time.monotonic()
    for last in driven:
        if time.monotonic() - saved_at >= SAVE_EVERY_S and not last.done:
            driven.keep()
            saved_at = time.monotonic()
    driven.record.drop_checkpoint()
    assert last is not None, "a checkpoint is kept before the last unit alone"
    driven.save_weights(folder / FINAL)
    write_log(driven.record.log, folder / LOG)
    (folder / BEST).unlink(missing_ok=True)
    return driven, last


def _score(driven: Drive, last: Report, bench: Bench) -> Facts:
    record = driven.record
    scores = score(bench, driven.model, bench.pixel_inputs, "val")
    save_scores(record.folder / SCORES, scores)
    return Facts(
        manifest_hash=bench.prepared.protocol.manifest_hash,
        map=scores.overall.map.mean,
        cmc1=scores.overall.cmc1.mean,
        peak_map=last.best[OBJECTIVE.name],
        peak_unit=int(last.best["unit"]),
        units=last.unit,
        images=last.images,
        train_s=sum(row["train_s"] for row in record.log),
        params_trained=_num_trained(record.experiment, bench),
    )


def _num_trained(experiment: Experiment, bench: Bench) -> int:
    """Weights that any phase trains."""
    ready = assemble(experiment, bench)
    chosen = [item for phase in ready.phases for item in choose(ready.model, phase.train)]
    return sum({item.name: item.parameter.numel() for item in chosen}.values())
