"""Measuring saved runs: one run in detail, or several side by side with CLIP as it is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handclip_core.data.training import Part
from handclip_core.errors import InputError
from handclip_core.evaluation.baselines import BASELINES
from handclip_core.evaluation.bootstrap import estimate
from handclip_core.evaluation.compare import as_csv, compare_models, markdown
from handclip_core.evaluation.embed import aspect_accuracy, embed
from handclip_core.evaluation.protocol import ProtocolScores
from handclip_core.evaluation.storage import save_scores, summary
from handclip_core.evaluation.tta import combine_flips
from handclip_core.models.hand_model import HandModel
from handclip_core.reports.measure import View, measure, scored
from handclip_core.runs.baselines import baseline_descriptors
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, assemble, context_of
from handclip_core.runs.run_folder import as_json, load_run, read_experiment, write_json, write_text
from handclip_core.runs.test_access import access_text, logged_access
from handclip_core.strategies import ZeroShot
from handclip_core.tasks.identities.data import IdentityData, identity_data
from handclip_core.types import ASPECT_INDEX, Aspect

REFERENCE = "clip (zero-shot)"


@dataclass(frozen=True)
class Report:
    """A measured run: ``text`` to read, ``values`` for programs."""

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


def evaluate_run(
    folder: Path, *, device: torch.device, view: View, baselines: Sequence[str] = (), keep: bool = False
) -> Report:
    """Score the best weights of a run; write ``evaluation_<split>.json`` and, by query, ``.npz`` beside them.

    On another kind of gallery than that of the run's data the files are called ``evaluation_<split>_<gallery>``. With
    ``keep``, the embeddings of the split and what their rows show are kept there, see ``keep_embeddings``.
    Thresholds of verification and of the open set are set on validation identities, also for the test identities.
    Raises InputError if the run cannot be loaded.
    """
    experiment = read_experiment(folder)
    _refuse_seen([folder], [experiment], view)
    context = context_of(experiment, device)
    model = load_run(folder, device=device)
    _refuse_unknown(baselines)
    with logged_access([folder], context, view.split, by="evaluate") as figures:
        if isinstance(context.dataset, IdentityData):
            report = _evaluated(folder, model, context, view, baselines, keep=keep)
            figures |= report.values["scores"]["overall"]
        else:
            report = _without_galleries(folder, model, context, view)
            figures |= report.values["metrics"]
    return replace(report, text="\n\n".join(filter(None, [report.text, access_text(folder, context, view.split)])))


def _evaluated(
    folder: Path, model: HandModel, context: ExperimentContext, view: View, baselines: Sequence[str], *, keep: bool
) -> Report:
    embeddings = _embeddings(model, context, view)
    if keep:
        keep_embeddings(folder, embeddings, context, view)
    unseen = read_experiment(folder).part == "train"
    on_val = embeddings if view.split == "val" else _embeddings(model, context, replace(view, split="val"))
    found = measure(embeddings, on_val if unseen else None, context, view, model=model)
    baseline_scores = _baseline_scores(context, view, baselines, read_experiment(folder).part)
    values = {"run": str(folder), **asdict(view), "gallery": found.scores.gallery.value, **found.values()}
    accuracy = aspect_accuracy(
        model, context.pixel_inputs, context.rows(view.split), aspects=context.aspect_indices, device=context.device
    )
    values["aspect_accuracy"] = accuracy
    values["baselines"] = {name: summary(scores) for name, scores in baseline_scores.items()}
    kind = found.scores.gallery
    name = (
        f"evaluation_{view.split}"
        if kind is identity_data(context.dataset, what="evaluate").gallery
        else f"evaluation_{view.split}_{kind}"
    )
    write_json(folder / f"{name}.json", values)
    save_scores(folder / f"{name}.npz", found.scores)
    text = found.text({_names([folder])[0]: found.scores, **baseline_scores}, view.split)
    told = "" if accuracy is None else f"\n\nthe model tells the aspect of {accuracy:.1%} of the images"
    return Report(text=text + told, values=values)


def _without_galleries(folder: Path, model: HandModel, context: ExperimentContext, view: View) -> Report:
    """The figures of a task without galleries, with intervals, and its tables, which are written into the folder."""
    if view != View(view.split):
        raise InputError(f"--flip, --ranking, --hide-aspects, --gallery: the task {context.task.name} has no galleries")
    found, task = context.evaluator(view.split).evaluate(model, context.pixel_inputs), context.task
    intervals = {metric.name: asdict(estimate(found, metric.name)) for metric in task.metrics.in_finals}
    values = {"run": str(folder), "split": view.split, "metrics": found.metrics, "intervals": intervals}
    write_json(folder / f"evaluation_{view.split}.json", values)
    task.save(folder / f"evaluation_{view.split}.npz", found)
    for name, text in found.files.items():
        write_text(folder / f"evaluation_{view.split}_{name}", text)
    lines = [
        f"{metric.label} {found.mean(metric.name):.4f} (95 % {intervals[metric.name]['low']:.4f} to "
        f"{intervals[metric.name]['high']:.4f} over {intervals[metric.name]['num_identities']} {task.clusters})"
        for metric in task.metrics.in_finals
    ]
    return Report(text="\n".join([found.files.get("report.md", ""), *lines]), values=values)


def compare_runs(
    folders: Sequence[Path], *, device: torch.device, view: View, baselines: Sequence[str] = (), keep: bool = False
) -> Comparison:
    """Score runs on the same data beside CLIP as it is; raises InputError if their data or backbones differ.

    With ``keep``, each run's folder gets its embeddings, see ``keep_embeddings``.
    """
    experiments = [read_experiment(folder) for folder in folders]
    _refuse_seen(folders, experiments, view)
    first = experiments[0]
    for folder, other in zip(folders, experiments, strict=True):
        if (other.task, other.data, other.backbone) != (first.task, first.data, first.backbone):
            raise InputError(
                f"{folder}: has another task, other data or another backbone than {folders[0]}; compare like with like"
            )
    context = context_of(first, device)
    identity_data(context.dataset, what="compare")
    _refuse_unknown(baselines)
    with logged_access(folders, context, view.split, by="compare") as figures:
        models = _scored_models(folders, context, view, baselines, keep=keep)
        figures |= {name: summary(scores)["overall"] for name, scores in models.items()}
    rows = compare_models(models, reference=REFERENCE)
    text = "\n\n".join(filter(None, [markdown(rows), access_text(folders[0], context, view.split)]))
    return Comparison(markdown=text, csv=as_csv(rows))


def _scored_models(
    folders: Sequence[Path], context: ExperimentContext, view: View, baselines: Sequence[str], *, keep: bool
) -> dict[str, ProtocolScores]:
    """CLIP as it is, the baselines, and the runs."""
    first = read_experiment(folders[0])
    reference = assemble(first.model_copy(update={"strategy": ZeroShot()}), context).model
    models = {REFERENCE: scored(_embeddings(reference, context, view), context, view)}
    models |= _baseline_scores(context, view, baselines, first.part)
    for name, folder in zip(_names(folders), folders, strict=True):
        model = load_run(folder, device=context.device)
        embeddings = _embeddings(model, context, view)
        if keep:
            keep_embeddings(folder, embeddings, context, view)
        models[name] = scored(embeddings, context, view, similarity=model.similarity)
    return models


def keep_embeddings(folder: Path, embeddings: Tensor, context: ExperimentContext, view: View) -> None:
    """Write ``embeddings_<split>.npy``, float32 [n, W], and ``.csv`` with a line for each of its rows, in their order.

    The columns are the manifest row, the identity, the aspect and the file. With the gallery splits of the prepared
    data, whoever distrusts a figure can compute it anew.
    """
    path, rows = folder / f"embeddings_{view.split}", context.rows(view.split)
    np.save(path.with_suffix(".npy"), embeddings.numpy().astype(np.float32))
    shown = context.prepared.manifest.iloc[rows][["identity", "aspect", "path"]]
    shown.insert(0, "row", rows)
    shown.to_csv(path.with_suffix(".csv"), index=False)


def _embeddings(model: HandModel, context: ExperimentContext, view: View) -> Tensor:
    rows, inputs, aspects = context.rows(view.split), context.pixel_inputs, context.aspect_indices
    if view.hide_aspects:
        aspects = np.full_like(aspects, ASPECT_INDEX[Aspect.UNKNOWN])
    if not view.flip:
        return embed(model, inputs, rows, aspects=aspects, device=context.device)
    plain, mirrored = (
        embed(model, inputs, rows, aspects=aspects, device=context.device, mirror=mirror, unit=False)
        for mirror in (False, True)
    )
    return combine_flips(plain, mirrored)


def _refuse_seen(folders: Sequence[Path], experiments: Sequence[Experiment], view: View) -> None:
    """Raise InputError if the identities that would be scored are among those that a run was trained on."""
    for folder, experiment in zip(folders, experiments, strict=True):
        if experiment.part == "train_all" and view.split == "val":
            raise InputError(f"{folder}: was trained on the validation identities too; score it with --split test")


def _refuse_unknown(baselines: Sequence[str]) -> None:
    unknown = [name for name in baselines if name not in BASELINES]
    if unknown:
        raise InputError(f"--baseline {unknown[0]}: unknown; choose among {', '.join(BASELINES)}")


def _baseline_scores(
    context: ExperimentContext, view: View, baselines: Sequence[str], part: Part
) -> dict[str, ProtocolScores]:
    rows = context.rows(view.split)
    return {name: scored(baseline_descriptors(name, context, rows, part=part), context, view) for name in baselines}


def _names(folders: Sequence[Path]) -> list[str]:
    """Short names of run folders that tell them apart: ``name``, or ``parent/name`` if names repeat."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names) and "best" not in names:
        return names
    return [f"{folder.resolve().parent.name}/{name}" for folder, name in zip(folders, names, strict=True)]
