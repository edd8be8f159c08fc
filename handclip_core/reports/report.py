"""Measuring saved runs: one run in detail, or several side by side with CLIP as it is."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from handclip_core.data.training import Part
from handclip_core.errors import InputError
from handclip_core.evaluation.baselines import BASELINES
from handclip_core.evaluation.compare import as_csv, compare_models, markdown
from handclip_core.evaluation.embed import aspect_accuracy, embed
from handclip_core.evaluation.protocol import ProtocolScores
from handclip_core.evaluation.storage import save_scores, summary
from handclip_core.evaluation.tta import combine_flips
from handclip_core.models.hand_model import HandModel
from handclip_core.reports import without_galleries
from handclip_core.reports.measure import View, measure, scored
from handclip_core.reports.results import Comparison, Report
from handclip_core.reports.without_galleries import Method
from handclip_core.runs.baselines import baseline_descriptors
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.cost import cost_of
from handclip_core.runs.experiment import Experiment, assemble, context_of
from handclip_core.runs.run_folder import load_run, read_experiment, write_json
from handclip_core.runs.test_access import access_text, logged_access
from handclip_core.strategies import ZeroShot
from handclip_core.tasks.identities.data import IdentityData, identity_data
from handclip_core.types import ASPECT_INDEX, Aspect

REFERENCE = "clip (zero-shot)"


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
    _refuse_unfit(context, view, baselines)
    with logged_access([folder], context, view.split, by="evaluate") as figures:
        if isinstance(context.dataset, IdentityData):
            report = _evaluated(folder, model, context, view, baselines, keep=keep)
            figures |= report.values["scores"]["overall"]
        else:
            if keep:
                _keep_embedded(folder, model, context, view)
            report = without_galleries.evaluated(folder, model, context, view.split)
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
    _refuse_unfit(context, view, baselines)
    with logged_access(folders, context, view.split, by="compare") as figures:
        if isinstance(context.dataset, IdentityData):
            models = _scored_models(folders, context, view, baselines, keep=keep)
            figures |= {name: summary(scores)["overall"] for name, scores in models.items()}
            rows = compare_models(models, reference=REFERENCE)
            found = Comparison(markdown=markdown(rows), csv=as_csv(rows))
        else:
            methods = _methods(folders, context, view, keep=keep)
            figures |= {name: method.scores.metrics for name, method in methods.items()}
            found = without_galleries.side_by_side(methods, context)
    text = "\n\n".join(filter(None, [found.markdown, access_text(folders[0], context, view.split)]))
    return replace(found, markdown=text)


def _scored_models(
    folders: Sequence[Path], context: ExperimentContext, view: View, baselines: Sequence[str], *, keep: bool
) -> dict[str, ProtocolScores]:
    """CLIP as it is, the baselines, and the runs."""
    first = read_experiment(folders[0])
    models = {REFERENCE: scored(_embeddings(_as_it_is(first, context), context, view), context, view)}
    models |= _baseline_scores(context, view, baselines, first.part)
    for name, folder in zip(_names(folders), folders, strict=True):
        model = load_run(folder, device=context.device)
        embeddings = _embeddings(model, context, view)
        if keep:
            keep_embeddings(folder, embeddings, context, view)
        models[name] = scored(embeddings, context, view, similarity=model.similarity)
    return models


def _methods(folders: Sequence[Path], context: ExperimentContext, view: View, *, keep: bool) -> dict[str, Method]:
    """CLIP as it is and the runs, in a task without galleries."""
    evaluator, inputs = context.evaluator(view.split), context.pixel_inputs
    methods = {REFERENCE: Method(evaluator.evaluate(_as_it_is(read_experiment(folders[0]), context), inputs))}
    for name, folder in zip(_names(folders), folders, strict=True):
        model = load_run(folder, device=context.device)
        if keep:
            _keep_embedded(folder, model, context, view)
        methods[name] = Method(evaluator.evaluate(model, inputs), cost_of(folder, context))
    return methods


def _as_it_is(experiment: Experiment, context: ExperimentContext) -> HandModel:
    """CLIP as it was pretrained."""
    return assemble(experiment.model_copy(update={"strategy": ZeroShot()}), context).model


def _keep_embedded(folder: Path, model: HandModel, context: ExperimentContext, view: View) -> None:
    embedded = context.evaluator(view.split).embedded(model, context.pixel_inputs)
    keep_embeddings(folder, embedded, context, view)


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


def _refuse_unfit(context: ExperimentContext, view: View, baselines: Sequence[str]) -> None:
    """Raise InputError for a baseline that there is not, and for what a task without galleries cannot be asked."""
    if not isinstance(context.dataset, IdentityData) and (view != View(view.split) or baselines):
        options = "--flip, --ranking, --hide-aspects, --gallery, --baseline"
        raise InputError(f"{options}: the task {context.task.name} has no galleries")
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
