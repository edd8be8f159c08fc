"""``show``, ``train``, ``evaluate``, ``compare``: single experiments, without a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from handclip_core.paths import input_folder, output_folder
from handclip_core.signals import say_at_the_end

if TYPE_CHECKING:
    from handclip_core.reports.measure import View

A_RUN = "name the folder of a run, as `train --out FOLDER` wrote it"

ExperimentFile = Annotated[Path, typer.Argument(help="YAML or JSON file of an experiment, or a run's config.json.")]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run.")]
SplitName = Annotated[Literal["val", "test"], typer.Option(help="Which identities to score.")]
Flip = Annotated[bool, typer.Option("--flip", help="Add the features of the mirror image (test-time augmentation).")]
Ranked = Annotated[
    Literal["cosine", "rerank", "expand"], typer.Option(help="Cosine, k-reciprocal re-ranking, or query expansion.")
]
HideAspects = Annotated[
    bool, typer.Option("--hide-aspects", help="Do not tell models which side of which hand an image shows.")
]
GalleryName = Annotated[
    Literal["own", "all"] | None,
    typer.Option(help="Gallery of the query's own aspect, or of all aspects; without it, that of the run's data."),
]
EnrolledImages = Annotated[
    Literal["one", "rest"] | None,
    typer.Option(help="Images a person in the gallery: the one drawn, or all others, and that one is the query."),
]
DistanceName = Annotated[
    Literal["cosine", "euclidean"] | None,
    typer.Option(help="What orders a gallery; without it, and without the two options above, as the run's data say."),
]
Keep = Annotated[
    bool, typer.Option("--keep-embeddings", help="Keep embeddings_SPLIT.npy, and .csv with their rows, in the run.")
]
Baselines = Annotated[
    list[str] | None,
    typer.Option(help="A row of pixels or gradients, as pixels, hog or wccn_hog; an unknown one lists all."),
]


def show(
    experiment: Annotated[
        Path | None, typer.Argument(help="YAML or JSON file of an experiment, or a run's config.json; none for all.")
    ] = None,
) -> None:
    """Print the plan of an experiment, or of every strategy with its defaults, without training anything."""
    from handclip_core.data.sources import DrawnData
    from handclip_core.devices import select_device
    from handclip_core.models.backbone import BackboneSettings
    from handclip_core.reports.plans import default_plans, plan_table
    from handclip_core.runs.context import open_context
    from handclip_core.runs.experiment import Experiment

    device = select_device("cpu")
    if experiment:
        print(plan_table(Experiment.from_file(experiment), device=device))
    else:
        print(default_plans(open_context(DrawnData(), BackboneSettings(), device)))


def train(
    experiment: ExperimentFile,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    device: DeviceName = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
) -> None:
    """Train one experiment and save its run."""
    from handclip_core.devices import select_device
    from handclip_core.local import summary, train_into
    from handclip_core.runs.experiment import Experiment

    out = output_folder(out, option="--out")
    say_at_the_end("interrupted; the same command with --resume goes on from the last whole unit")
    print(summary(train_into(out, Experiment.from_file(experiment), device=select_device(device), resume=resume)))


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    split: SplitName = "val",
    device: DeviceName = "auto",
    flip: Flip = False,
    ranking: Ranked = "cosine",
    hide_aspects: HideAspects = False,
    gallery: GalleryName = None,
    enrolled: EnrolledImages = None,
    distance: DistanceName = None,
    baseline: Baselines = None,
    keep_embeddings: Keep = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Score a run: means over aspects and draws, intervals over identities, verification, breakdown."""
    from handclip_core.devices import select_device
    from handclip_core.reports.report import evaluate_run

    run = _run_folder(run, written=True)
    view = _view(split, gallery, enrolled, distance, flip=flip, ranking=ranking, hide_aspects=hide_aspects)
    report = evaluate_run(run, device=select_device(device), view=view, baselines=baseline or [], keep=keep_embeddings)
    print(report.json if as_json else report.text)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs on the same data.")],
    split: SplitName = "val",
    device: DeviceName = "auto",
    flip: Flip = False,
    ranking: Ranked = "cosine",
    hide_aspects: HideAspects = False,
    gallery: GalleryName = None,
    enrolled: EnrolledImages = None,
    distance: DistanceName = None,
    baseline: Baselines = None,
    keep_embeddings: Keep = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write comparison.md and comparison.csv to.")] = None,
) -> None:
    """Put runs side by side with CLIP as it is, with intervals over identities and paired differences."""
    from handclip_core.devices import select_device
    from handclip_core.reports.report import compare_runs

    runs = [_run_folder(run, written=keep_embeddings) for run in runs]
    out = output_folder(out, option="--out") if out else None
    view = _view(split, gallery, enrolled, distance, flip=flip, ranking=ranking, hide_aspects=hide_aspects)
    comparison = compare_runs(
        runs, device=select_device(device), view=view, baselines=baseline or [], keep=keep_embeddings
    )
    print(comparison.markdown)
    if out:
        comparison.write(out)


def _view(
    split: Literal["val", "test"], gallery: str | None, enrolled: str | None, distance: str | None, **others: Any
) -> "View":
    from handclip_core.evaluation.protocol import Enrolled, GalleryKind
    from handclip_core.evaluation.similarity import Distance
    from handclip_core.reports.measure import View

    return View(
        split,
        gallery=GalleryKind(gallery) if gallery else None,
        enrolled=Enrolled(enrolled) if enrolled else None,
        distance=Distance(distance) if distance else None,
        **others,
    )


def _run_folder(given: Path, *, written: bool) -> Path:
    """The folder of a run, to which results are to be ``written``; raises InputError if it cannot be used."""
    folder = input_folder(given, mend=A_RUN)
    return output_folder(folder, option="RUN") if written else folder
