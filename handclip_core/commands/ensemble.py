"""``ensemble``: several finished runs as one model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from handclip_core.errors import InputError
from handclip_core.paths import input_folder, output_folder


def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs on the same data, or of sweeps' best.")],
    out: Annotated[Path, typer.Option(help="New folder, which is used as a run's is.")],
    by: Annotated[
        Literal["score", "feature", "vote"] | None,
        typer.Option(help="What is fused: weighted scores (the default), vectors side by side, or votes."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Shares of features, or of classifiers, as 0.6,0.4; without them, fitted on validation."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run.")] = "auto",
) -> None:
    """Fuse finished runs of any strategies and backbones into one model, with weights fitted on validation."""
    from handclip_core.devices import select_device
    from handclip_core.evaluation.joined import FusedBy
    from handclip_core.runs.ensemble import make_ensemble

    folders = [input_folder(run, mend="name the folder of a finished run, such as runs/NAME/best") for run in runs]
    target = output_folder(out, option="--out")
    made = make_ensemble(
        folders,
        target,
        by=FusedBy(by) if by else None,
        weights=None if weights is None else _numbers(weights),
        device=select_device(device),
    )
    print(made.text())


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--weights {text}: write numbers with commas between them, as 0.6,0.4") from None
