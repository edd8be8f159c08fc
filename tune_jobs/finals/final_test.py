"""The sealed look: the chosen configuration, fitted on all training people, on the test people, and entered."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from handclip_core.config import read_yaml
from handclip_core.devices import select_device
from handclip_core.engine.state import save_tensors
from handclip_core.evaluation.bootstrap import Comparison, Estimate, compare_paired, estimate
from handclip_core.evaluation.ledger import LOOKED, OPENED, Entry, Ledger
from handclip_core.evaluation.storage import load_scores, save_scores
from handclip_core.runs.context import open_bench
from handclip_core.runs.experiment import Experiment, assemble, score
from handclip_core.runs.run_folder import BEST, CONFIG, FINAL, read_experiment, write_json, write_text
from handclip_core.runs.soups import Ingredient, mixture
from handclip_core.runs.test_access import LEDGER, code_version
from handclip_core.strategies import ZeroShot
from tune_jobs.finals.build import Finals
from tune_jobs.finals.fit import train_to_the_end
from tune_jobs.finals.jobs import Job, experiment_job
from tune_jobs.finals.mixtures import Entrant, Recipe
from tune_jobs.reporting.summary import say

FILE, MODEL = "final_test.json", "model"
WINNER_SCORES, CLIP_SCORES = "test_winner.npz", "test_clip.npz"
METRICS = ("map", "cmc1")


@dataclass(frozen=True)
class FinalTest:
    """What a look at the test people gave; ``looks`` are all at these people so far, ``number`` is this one's place.

    ``figures`` has the chosen model's, ``baseline`` CLIP's and ``gaps`` the paired difference, by the names in METRICS.
    ``entry`` is the hash of its last line in the ledger.
    """

    chosen: str
    entry: str
    number: int
    looks: tuple[Entry, ...]
    figures: dict[str, Estimate]
    baseline: dict[str, Estimate]
    gaps: dict[str, Comparison]


def final_test(finals: Finals, chosen: Entrant) -> FinalTest | None:
    """Fit ``chosen`` on all training people and look at the test people; None where a fit fails, which is named.

    The ledger is checked first and written twice: before the test people are scored and after. Raises InputError where
    its chain is broken.
    """
    ledger = ledger_of(finals)
    seen = check_ledger(ledger, finals)
    folder = finals.folder / MODEL / _folder_name(finals, chosen.recipe)
    fits = _fit(finals, chosen.recipe, folder)
    if fits is None:
        return None
    about = _about(finals, chosen)
    entry = ledger.append(OPENED, about)
    say(f"opening the test people: look {len(seen) + 1} at these {finals.data.num_test_people}")
    wanted = (str(folder), fits, chosen.recipe.alpha, finals.room.device, finals.room.cpus)
    finals.run_jobs([Job("test", look, wanted)], what="the look")
    if "test" in finals.failures:
        return None
    found = _measured(folder)
    figures = {name: _values(found[position]) for position, name in enumerate(("winner", "clip", "gap"))}
    done = ledger.append(LOOKED, {**about, "opened": entry.hash, "figures": figures})
    known = {"chosen": chosen.name, "opened": entry.hash, "entry": done.hash, "data": finals.data.test_hash}
    write_json(finals.folder / FILE, {**known, "model": folder.name})
    return last_look(finals)


def last_look(finals: Finals) -> FinalTest | None:
    """The sweep's latest look, if it has had one; raises InputError where the ledger lacks it or is broken."""
    path = finals.folder / FILE
    if not path.exists():
        return None
    ledger, known = ledger_of(finals), read_yaml(path)
    check_ledger(ledger, finals)
    looks = ledger.looks(known["data"])
    number = next(place for place, look in enumerate(looks, start=1) if look.hash == known["opened"])
    found = _measured(finals.folder / MODEL / known["model"])
    return FinalTest(known["chosen"], known["entry"], number, tuple(looks), *found)


def ledger_of(finals: Finals) -> Ledger:
    """The ledger of all sweeps in one storage."""
    return Ledger(finals.past.folder.parent / LEDGER)


def check_ledger(ledger: Ledger, finals: Finals) -> list[Entry]:
    """The looks so far at the sweep's test people; raises InputError where the ledger is broken or lost one."""
    path = finals.folder / FILE
    if path.exists():
        ledger.require(read_yaml(path)["entry"], source=path)
    return ledger.looks(finals.data.test_hash)


def fit(folder: str, experiment: dict[str, Any], device: str, threads: int) -> None:
    """Train ``experiment`` to the end into ``folder``; its last weights mark it as complete."""
    torch.set_num_threads(threads)
    train_to_the_end(Path(folder), Experiment.model_validate(experiment), select_device(device))


def look(folder: str, fits: Sequence[str], alpha: float | None, device: str, threads: int) -> None:
    """Put the fitted model together in ``folder``, and score it and CLIP as it is on the test people."""
    torch.set_num_threads(threads)
    where, out = select_device(device), Path(folder)
    runs = [Ingredient(one.name, read_experiment(one), one / FINAL) for one in map(Path, fits)]
    experiment = runs[0].experiment
    bench = open_bench(experiment.data, experiment.backbone, where)
    winner = mixture(runs, alpha=alpha, device=where)
    write_text(out / CONFIG, experiment.model_dump_json(indent=2))
    save_tensors(winner.state_dict(), out / BEST)
    clip = assemble(experiment.model_copy(update={"strategy": ZeroShot(), "part": "train"}), bench).model
    for name, model in ((WINNER_SCORES, winner), (CLIP_SCORES, clip)):
        save_scores(out / name, score(bench, model, bench.pixel_inputs, "test"))


def _fit(finals: Finals, recipe: Recipe, folder: Path) -> list[str] | None:
    """Folders of the recipe's members, fitted on all training people on the first seed; None where a fit fails."""
    jobs, folders = [], []
    for number, member in enumerate(recipe.members):
        where = folder / f"fit-{number}"
        folders.append(str(where))
        experiment = member.on(finals.seeds[0]).model_copy(update={"part": "train_all"})
        if not (where / FINAL).exists():
            name = f"{member.name}, on all training people"
            jobs.append(experiment_job(name, fit, where, experiment, finals.room))
    finals.run_jobs(jobs, what="final fits")
    return None if any(job.name in finals.failures for job in jobs) else folders


def _measured(folder: Path) -> tuple[dict[str, Estimate], dict[str, Estimate], dict[str, Comparison]]:
    """Figures of the chosen model, of CLIP as it is, and their paired differences, by the names in METRICS."""
    winner, clip = (load_scores(folder / name) for name in (WINNER_SCORES, CLIP_SCORES))
    return (
        {name: estimate(winner, name) for name in METRICS},
        {name: estimate(clip, name) for name in METRICS},
        {name: compare_paired(winner, clip, name) for name in METRICS},
    )


def _values(found: dict[str, Any]) -> dict[str, Any]:
    return {name: vars(value) for name, value in found.items()}


def _about(finals: Finals, chosen: Entrant) -> dict[str, Any]:
    """What the ledger says of a look beside its figures."""
    return {
        "sweep": finals.past.name,
        "chosen": chosen.name,
        "config": _config_hash(finals, chosen.recipe),
        "data": finals.data.test_hash,
        "manifest": finals.data.manifest_hash,
        "code": code_version(),
    }


def _folder_name(finals: Finals, recipe: Recipe) -> str:
    """Name of the folder of a final model: another configuration, seed or data have another."""
    return hashlib.sha256(f"{_config_hash(finals, recipe)} {finals.data.manifest_hash}".encode()).hexdigest()[:12]


def _config_hash(finals: Finals, recipe: Recipe) -> str:
    members = [member.on(finals.seeds[0]).model_dump(mode="json") for member in recipe.members]
    text = json.dumps({"members": members, "alpha": recipe.alpha, "part": "train_all"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
