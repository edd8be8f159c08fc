"""One experiment on a cluster: ``python tune_jobs/train.py EXPERIMENT --workers N [--out FOLDER] [--resume]``."""

import sys
from pathlib import Path
from typing import Annotated, Literal

if __name__ == "__main__":
    # Run as a script, Python looks for modules beside it; a Ray job runs the code that was submitted, installed or not.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from handclip_core.signals import end_on_signals

    end_on_signals()

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

ExperimentFile = Annotated[Path, typer.Argument(help="YAML or JSON file of an experiment, or a run's config.json.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Processes that share the batches.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the run, which all nodes see; runs/ and the file's name.", show_default=False),
]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run.")]
Cpus = Annotated[int, typer.Option(min=1, help="CPUs a worker.")]
Gpus = Annotated[float, typer.Option(min=0.01, max=8, help="GPUs a worker, if GPUs are used.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")]


@app.command()
def main(
    experiment: ExperimentFile,
    workers: Workers = 1,
    out: Out = None,
    device: DeviceName = "auto",
    cpus: Cpus = 1,
    gpus: Gpus = 1.0,
    resume: Resume = False,
) -> None:
    """Train one experiment on several workers and save its run; the results do not depend on their number.

    Joins the Ray cluster at RAY_ADDRESS (a Ray job sets it), else uses this machine alone.
    """
    from tune_jobs import exit_code

    resources: dict[str, object] = {"device": device, "cpus": cpus, "gpus": gpus, "workers": workers}
    raise typer.Exit(exit_code(lambda: _train(experiment, out, resources, resume=resume)))


def _train(file: Path, out: Path | None, resources: dict[str, object], *, resume: bool) -> int:
    from handclip_core.local import summary
    from handclip_core.paths import output_folder
    from handclip_core.runs.experiment import Experiment
    from tune_jobs import preload_workers
    from tune_jobs.config.settings import Resources

    experiment = Experiment.from_file(file)
    folder = output_folder(out or Path("runs") / file.stem, option="--out").absolute()
    preload_workers()
    from tune_jobs.execution.train_one import train_on_cluster

    view = train_on_cluster(folder, experiment, resources=Resources.model_validate(resources), resume=resume)
    print(summary(view))
    return 0


if __name__ == "__main__":
    from handclip_core.__main__ import run

    run(app, "train.py")
