"""Measuring saved runs: one run in detail, or several side by side with CLIP as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from handclip_core.data.manifest import Cut
from handclip_core.data.training import Part
from handclip_core.errors import InputError
from handclip_core.evaluation.baselines import BASELINES
from handclip_core.evaluation.compare import as_csv, compare_models, markdown
from handclip_core.evaluation.embed import aspect_accuracy, embed
from handclip_core.evaluation.protocol import Enrolled, ProtocolScores
from handclip_core.evaluation.published import HD, beside_published
from handclip_core.evaluation.similarity import Distance
from handclip_core.evaluation.storage import save_scores, summary
from handclip_core.evaluation.tta import combine_flips
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.backbone import BackboneSettings
from handclip_core.paths import shown_path
from handclip_core.reports import without_galleries
from handclip_core.reports.measure import View, measure, scored
from handclip_core.reports.results import ComparisonTable, Report
from handclip_core.reports.without_galleries import Method
from handclip_core.runs.baselines import baseline_descriptors
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.cost import cost_of, together
from handclip_core.runs.ensemble_file import is_ensemble
from handclip_core.runs.experiment import Experiment, built, context_of
from handclip_core.runs.loaded import LoadedRun, experiments_of, load_finished, runs_in
from handclip_core.runs.run_folder import read_experiment, write_json
from handclip_core.runs.test_access import access_text, logged_access
from handclip_core.strategies import ZeroShot
from handclip_core.tasks.galleries import galleries_of
from handclip_core.types import ASPECT_INDEX, Aspect

REFERENCE = "clip (zero-shot)"


def evaluate_run(
    folder: Path, *, device: torch.device, view: View, baselines: Sequence[str] = (), keep: bool = False
) -> Report:
    """Score the best weights of a run; write ``evaluation_<split>.json`` and, by query, ``.npz`` beside them.

    What is other than the settings of the run's data is in the files' names, as in ``evaluation_<split>_<gallery>``.
    With ``keep``, the embeddings of the split and what their rows show are kept there, see ``keep_embeddings``.
    Thresholds of verification and of the open set are set on validation identities, also for the test identities.
    Raises InputError if the run cannot be loaded.
    """
    part = _refuse_seen(folder, experiments_of(folder), view)
    _refuse_flip([folder], view)
    run = load_finished(folder, device=device)
    context = run.context
    _refuse_unfit(context, view, baselines)
    with logged_access([folder], context, view.split, by="evaluate") as figures:
        if context.dataset.galleries:
            report = _evaluated(folder, run, part, view, baselines, keep=keep)
            figures |= report.values["scores"]["overall"]
        else:
            if keep:
                _keep_embedded(folder, run, view)
            report = without_galleries.evaluated(folder, run, view.split)
            figures |= report.values["metrics"]
    return replace(report, text="\n\n".join(filter(None, [report.text, access_text(folder, context, view.split)])))


def _evaluated(folder: Path, run: LoadedRun, part: Part, view: View, baselines: Sequence[str], *, keep: bool) -> Report:
    if view.distance is Distance.EUCLIDEAN and run.model.similarity is not None:
        raise InputError(f"--distance euclidean: {folder} compares by a score of its own; leave the option out")
    context, embeddings = run.context, _embeddings(run, view)
    if keep:
        keep_embeddings(folder, embeddings, context, view)
    on_val = None
    if part == "train":
        on_val = embeddings if view.split == "val" else _embeddings(run, replace(view, split="val"))
    found = measure(embeddings, on_val, context, view, model=run.model)
    baseline_scores = _baseline_scores(context, view, baselines, part)
    decided = view.decided(galleries_of(context.dataset, what="evaluate"), run.model.similarity)
    values = {"run": str(folder), **decided, **found.values()}
    accuracy = aspect_accuracy(
        run.model, run.inputs, view.rows(context), aspects=context.aspect_indices, device=context.device
    )
    values["aspect_accuracy"] = accuracy
    values["baselines"] = {name: summary(scores) for name, scores in baseline_scores.items()}
    name = view.file_name(galleries_of(context.dataset, what="evaluate"))
    write_json(folder / f"{name}.json", values)
    save_scores(folder / f"{name}.npz", found.scores)
    text = found.text({_names([folder])[0]: found.scores, **baseline_scores}, view.split)
    told = "" if accuracy is None else f"\n\nthe model tells the aspect of {accuracy:.1%} of the images"
    return Report(text=text + told, values=values)


def compare_runs(
    folders: Sequence[Path], *, device: torch.device, view: View, baselines: Sequence[str] = (), keep: bool = False
) -> ComparisonTable:
    """Score runs and ensembles on the same data beside CLIP as it is, with each of their backbones.

    Gaps are to the backbone of the first run. With ``keep``, each run's folder gets its embeddings, see
    ``keep_embeddings``. Raises InputError if their tasks or data differ.
    """
    experiments = [one for folder in folders for one in experiments_of(folder)]
    first = experiments[0]
    _refuse_flip(folders, view)
    for folder in folders:
        _refuse_seen(folder, experiments_of(folder), view)
        if any((other.task, other.data) != (first.task, first.data) for other in experiments_of(folder)):
            raise InputError(f"{folder}: has another task or other data than {folders[0]}; compare like with like")
    context = context_of(first, device)
    _refuse_unfit(context, view, baselines)
    with logged_access(folders, context, view.split, by="compare") as figures:
        if context.dataset.galleries:
            models = _untrained_models(experiments, view, device)
            reference = next(iter(models))
            models |= _baseline_scores(context, view, baselines, first.part)
            models |= _scored_models(folders, view, device, keep=keep)
            figures |= {name: summary(scores)["overall"] for name, scores in models.items()}
            rows = compare_models(models, reference=reference)
            found = ComparisonTable(markdown=markdown(rows), csv=as_csv(rows))
            published = _published(models, context, view)
        else:
            methods = _methods(folders, experiments, view, device, keep=keep)
            figures |= {name: method.scores.metrics for name, method in methods.items()}
            found, published = without_galleries.side_by_side(methods, context), ""
    texts = [found.markdown, published, access_text(folders[0], context, view.split)]
    return replace(found, markdown="\n\n".join(filter(None, texts)))


def _published(models: Mapping[str, ProtocolScores], context: ExperimentContext, view: View) -> str:
    """The tables of the papers, if the models were asked what the papers' were; nothing for other data."""
    protocol, data = context.prepared.protocol, galleries_of(context.dataset, what="compare")
    decided = view.decided(data, None)
    others = protocol.source not in ("11k", "hd") or decided["enrolled"] is not Enrolled.ONE
    ranked_otherwise = view.ranking != "cosine" or decided["distance"] is not Distance.COSINE
    if view.split != "test" or others or ranked_otherwise or view.hide_aspects:
        return ""
    if protocol.cut is not Cut.PUBLISHED:
        return "no published figures beside these: the data are cut otherwise (prepare 11k --cut published)"
    names = {aspect.value: HD if protocol.source == "hd" else aspect.value for aspect in data.aspects}
    return beside_published(models, tested_on=names, flip=view.flip)


def _untrained_models(experiments: Sequence[Experiment], view: View, device: torch.device) -> dict[str, ProtocolScores]:
    runs = _untrained(experiments, device)
    return {name: scored(_embeddings(run, view), run.context, view) for name, run in runs.items()}


def _untrained(experiments: Sequence[Experiment], device: torch.device) -> dict[str, LoadedRun]:
    """CLIP as it is: REFERENCE, or one by name for each of several backbones."""
    firsts = {experiment.backbone: experiment for experiment in reversed(experiments)}
    found, backbones = {}, list(dict.fromkeys(experiment.backbone for experiment in experiments))
    for backbone, name in zip(backbones, _backbone_names(backbones), strict=True):
        experiment, context = firsts[backbone], context_of(firsts[backbone], device)
        model = built(experiment.model_copy(update={"strategy": ZeroShot()}), context)
        found[REFERENCE if len(backbones) == 1 else name] = LoadedRun(model, context.pixel_inputs, context)
    return found


def _backbone_names(backbones: Sequence[BackboneSettings]) -> list[str]:
    """Names that tell them apart: by their weights and framing if they are of one architecture."""
    plain = [backbone.name for backbone in backbones]
    longer = [f"{one.name}, {one.pretrained or 'own weights'}, {one.framing}" for one in backbones]
    told = [name if plain.count(name) == 1 else other for name, other in zip(plain, longer, strict=True)]
    numbers = [told[:place].count(name) for place, name in enumerate(told)]
    return [
        f"{name}{f' ({number + 1})' if number else ''} (zero-shot)" for name, number in zip(told, numbers, strict=True)
    ]


def _scored_models(
    folders: Sequence[Path], view: View, device: torch.device, *, keep: bool
) -> dict[str, ProtocolScores]:
    """The runs."""
    models = {}
    for name, folder in zip(_names(folders), folders, strict=True):
        run = load_finished(folder, device=device)
        embeddings = _embeddings(run, view)
        if keep:
            keep_embeddings(folder, embeddings, run.context, view)
        models[name] = scored(embeddings, run.context, view, similarity=run.model.similarity)
    return models


def _methods(
    folders: Sequence[Path], experiments: Sequence[Experiment], view: View, device: torch.device, *, keep: bool
) -> dict[str, Method]:
    """CLIP as it is and the runs, in a task without galleries."""
    methods = {name: Method(_evaluation(run, view)) for name, run in _untrained(experiments, device).items()}
    for name, folder in zip(_names(folders), folders, strict=True):
        run = load_finished(folder, device=device)
        if keep:
            _keep_embedded(folder, run, view)
        costs = [cost_of(path, context_of(read_experiment(path), device)) for path in runs_in(folder)]
        methods[name] = Method(_evaluation(run, view), together(costs))
    return methods


def _evaluation(run: LoadedRun, view: View) -> Evaluation:
    return run.context.evaluator(view.split).evaluate(run.model, run.inputs)


def _keep_embedded(folder: Path, run: LoadedRun, view: View) -> None:
    embedded = run.context.evaluator(view.split).embedded(run.model, run.inputs)
    keep_embeddings(folder, embedded, run.context, view)


def keep_embeddings(folder: Path, embeddings: Tensor, context: ExperimentContext, view: View) -> None:
    """Write ``embeddings_<split>.npy``, float32 [n, W], and ``.csv`` with a line for each of its rows, in their order.

    The columns are the manifest row, the identity, the aspect and the file. With the gallery splits of the prepared
    data, whoever distrusts a figure can compute it anew.
    """
    path, rows = folder / f"embeddings_{view.split}", view.rows(context)
    np.save(path.with_suffix(".npy"), embeddings.numpy().astype(np.float32))
    shown = context.prepared.manifest.iloc[rows][["identity", "aspect", "path"]]
    shown.insert(0, "row", rows)
    shown.to_csv(path.with_suffix(".csv"), index=False)


def _embeddings(run: LoadedRun, view: View) -> Tensor:
    model, inputs, context = run.model, run.inputs, run.context
    rows, aspects = view.rows(context), context.aspect_indices
    if view.hide_aspects:
        aspects = np.full_like(aspects, ASPECT_INDEX[Aspect.UNKNOWN])
    data = context.dataset.galleries
    raw = data is not None and view.raw(data, model.similarity)
    if not view.flip:
        return embed(model, inputs, rows, aspects=aspects, device=context.device, unit=not raw)
    plain, mirrored = (
        embed(model, inputs, rows, aspects=aspects, device=context.device, mirror=mirror, unit=False)
        for mirror in (False, True)
    )
    return combine_flips(plain, mirrored, unit=not raw)


def _refuse_seen(folder: Path, experiments: Sequence[Experiment], view: View) -> Part:
    """On whom a run, or any member of an ensemble, was trained; raises InputError if they are to be scored."""
    part: Part = "train_all" if any(one.part == "train_all" for one in experiments) else "train"
    if part == "train_all" and view.split == "val":
        raise InputError(f"{folder}: was trained on the validation identities too; score it with --split test")
    return part


def _refuse_flip(folders: Sequence[Path], view: View) -> None:
    """Raise InputError for the mirror images of an ensemble: vectors are added before they are brought to length 1."""
    ensembles = [folder for folder in folders if is_ensemble(folder)]
    if view.flip and ensembles:
        raise InputError(f"--flip: is for single runs, and {shown_path(ensembles[0])} is an ensemble; leave it out")


def _refuse_unfit(context: ExperimentContext, view: View, baselines: Sequence[str]) -> None:
    """Raise InputError for a baseline that there is not, and for what a task without galleries cannot be asked."""
    if not context.dataset.galleries and (view != View(view.split) or baselines):
        options = "--flip, --ranking, --hide-aspects, --gallery, --enrolled, --distance, --baseline"
        raise InputError(f"{options}: the task {context.task.name} has no galleries")
    unknown = [name for name in baselines if name not in BASELINES]
    if unknown:
        raise InputError(f"--baseline {unknown[0]}: unknown; choose among {', '.join(BASELINES)}")


def _baseline_scores(
    context: ExperimentContext, view: View, baselines: Sequence[str], part: Part
) -> dict[str, ProtocolScores]:
    rows = view.rows(context)
    return {name: scored(baseline_descriptors(name, context, rows, part=part), context, view) for name in baselines}


def _names(folders: Sequence[Path]) -> list[str]:
    """Short names of run folders that tell them apart: ``name``, or ``parent/name`` if names repeat."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names) and "best" not in names:
        return names
    return [f"{folder.resolve().parent.name}/{name}" for folder, name in zip(folders, names, strict=True)]
