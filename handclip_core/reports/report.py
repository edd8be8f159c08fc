"""Measuring saved runs: one run in detail, or several side by side with CLIP as it is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.compare import as_csv, compare_models, markdown
from handclip_core.evaluation.embed import aspect_accuracy, embed
from handclip_core.evaluation.floors import FLOORS
from handclip_core.evaluation.protocol import ProtocolScores
from handclip_core.evaluation.storage import save_scores, summary
from handclip_core.evaluation.tta import combine_flips
from handclip_core.models.hand_model import HandModel
from handclip_core.reports.measure import View, measure, scored
from handclip_core.runs.context import Bench, open_bench
from handclip_core.runs.experiment import assemble
from handclip_core.runs.run_folder import as_json, load_run, read_experiment, write_json
from handclip_core.runs.test_access import entered, looks_text
from handclip_core.strategies import ZeroShot
from handclip_core.types import ASPECT_INDEX, Aspect

BASELINE = "clip (zero-shot)"


@dataclass(frozen=True)
class Report:
    """A measured run: ``text`` for people, ``values`` for programs."""

    text: str
    values: dict[str, Any]

    @property
    def json(self) -> str:
        """The values as strict JSON."""
        return as_json(self.values)


@dataclass(frozen=True)
class Comparison:
    """Models side by side."""

    markdown: str
    csv: str

    def write(self, folder: Path) -> None:
        """Write ``comparison.md`` and ``comparison.csv``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.md").write_text(self.markdown, encoding="utf-8")
        (folder / "comparison.csv").write_text(self.csv, encoding="utf-8")


def evaluate_run(folder: Path, *, device: torch.device, view: View, floors: Sequence[str] = ()) -> Report:
    """Score the best weights of a run; write ``evaluation_<split>.json`` and, by query, ``.npz`` beside them.

    Thresholds of verification and of the open set are set on validation people, also for the test people. Raises
    InputError where the run cannot be loaded.
    """
    experiment = read_experiment(folder)
    bench = open_bench(experiment.data, experiment.backbone, device)
    model = load_run(folder, device=device)
    _refuse_unknown(floors)
    with entered([folder], bench, view.split, by="evaluate") as figures:
        report = _evaluated(folder, model, bench, view, floors)
        figures |= report.values["scores"]["overall"]
    return replace(report, text="\n\n".join(filter(None, [report.text, looks_text(folder, bench, view.split)])))


def _evaluated(folder: Path, model: HandModel, bench: Bench, view: View, floors: Sequence[str]) -> Report:
    embeddings = _embeddings(model, bench, view)
    on_val = embeddings if view.split == "val" else _embeddings(model, bench, replace(view, split="val"))
    found = measure(embeddings, on_val, bench, view, similarity=model.similarity)
    floor_scores = _floor_scores(bench, view, floors)
    values = {"run": str(folder), **asdict(view), **found.values()}
    accuracy = aspect_accuracy(
        model, bench.pixel_inputs, bench.rows(view.split), aspects=bench.aspect_indices, device=bench.device
    )
    values["aspect_accuracy"] = accuracy
    values["floors"] = {name: summary(scores) for name, scores in floor_scores.items()}
    write_json(folder / f"evaluation_{view.split}.json", values)
    save_scores(folder / f"evaluation_{view.split}.npz", found.scores)
    text = found.text({_names([folder])[0]: found.scores, **floor_scores}, view.split)
    told = "" if accuracy is None else f"\n\nthe model tells the aspect of {accuracy:.1%} of the pictures"
    return Report(text=text + told, values=values)


def compare_runs(
    folders: Sequence[Path], *, device: torch.device, view: View, floors: Sequence[str] = ()
) -> Comparison:
    """Score runs on the same data beside CLIP as it is; raises InputError where their data or backbones differ."""
    experiments = [read_experiment(folder) for folder in folders]
    first = experiments[0]
    for folder, other in zip(folders, experiments, strict=True):
        if (other.data, other.backbone) != (first.data, first.backbone):
            raise InputError(f"{folder}: has other data or another backbone than {folders[0]}; compare like with like")
    bench = open_bench(first.data, first.backbone, device)
    _refuse_unknown(floors)
    with entered(folders, bench, view.split, by="compare") as figures:
        models = _scored_models(folders, bench, view, floors)
        figures |= {name: summary(scores)["overall"] for name, scores in models.items()}
    rows = compare_models(models, baseline=BASELINE)
    text = "\n\n".join(filter(None, [markdown(rows), looks_text(folders[0], bench, view.split)]))
    return Comparison(markdown=text, csv=as_csv(rows))


def _scored_models(
    folders: Sequence[Path], bench: Bench, view: View, floors: Sequence[str]
) -> dict[str, ProtocolScores]:
    """CLIP as it is, the floors, and the runs."""
    first = read_experiment(folders[0])
    baseline = assemble(first.model_copy(update={"strategy": ZeroShot()}), bench).model
    models = {BASELINE: scored(_embeddings(baseline, bench, view), bench, view)}
    models |= _floor_scores(bench, view, floors)
    for name, folder in zip(_names(folders), folders, strict=True):
        model = load_run(folder, device=bench.device)
        models[name] = scored(_embeddings(model, bench, view), bench, view, similarity=model.similarity)
    return models


def _embeddings(model: HandModel, bench: Bench, view: View) -> Tensor:
    rows, inputs, aspects = bench.rows(view.split), bench.pixel_inputs, bench.aspect_indices
    if view.hide_aspects:
        aspects = np.full_like(aspects, ASPECT_INDEX[Aspect.UNKNOWN])
    if not view.flip:
        return embed(model, inputs, rows, aspects=aspects, device=bench.device)
    plain, mirrored = (
        embed(model, inputs, rows, aspects=aspects, device=bench.device, mirror=mirror, unit=False)
        for mirror in (False, True)
    )
    return combine_flips(plain, mirrored)


def _refuse_unknown(floors: Sequence[str]) -> None:
    unknown = [name for name in floors if name not in FLOORS]
    if unknown:
        raise InputError(f"--floor {unknown[0]}: unknown; choose among {', '.join(FLOORS)}")


def _floor_scores(bench: Bench, view: View, floors: Sequence[str]) -> dict[str, ProtocolScores]:
    pictures = bench.pixels.batch(bench.rows(view.split)) if floors else np.empty(0)
    return {name: scored(FLOORS[name](pictures), bench, view) for name in floors}


def _names(folders: Sequence[Path]) -> list[str]:
    """Short names of run folders that tell them apart: ``name``, or ``parent/name`` where names repeat."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names) and "best" not in names:
        return names
    return [f"{folder.resolve().parent.name}/{name}" for folder, name in zip(folders, names, strict=True)]
