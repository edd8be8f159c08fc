"""The sweep: ``python tune_jobs/sweep.py [SETTINGS.yaml] [--name NAME] [--set KEY=VALUE ...]``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run as a script, Python looks for modules beside it; a Ray job runs the code that was submitted, installed or not.
    sys.path[0] = str(ROOT)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

File = Annotated[
    Path | None,
    typer.Argument(help="Settings in YAML, or a sweep's folder; without it, the quickstart.", show_default=False),
]
Name = Annotated[str | None, typer.Option(help="Name of the sweep's folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, as in data.people=60.", show_default=False),
]
Resume = Annotated[bool, typer.Option("--resume", help="Take up a sweep that was interrupted, or whose driver died.")]
Extend = Annotated[
    int | None, typer.Option(min=1, help="Take up a sweep with so many trials more.", show_default=False)
]


@app.command()
def main(
    settings: File = None, name: Name = None, set_: Overrides = None, resume: Resume = False, extend: Extend = None
) -> None:
    """Search strategies and hyperparameters for recognising people by their hands.

    Joins the Ray cluster at RAY_ADDRESS (a Ray job sets it), else uses this machine alone. Results go to runs/NAME.
    """
    from handclip_core.errors import InputError

    try:
        code = _take_up(settings, name, set_ or [], extend) if resume or extend else _sweep(settings, name, set_ or [])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    raise typer.Exit(code)


def _sweep(file: Path | None, name: str | None, overrides: list[str]) -> int:
    from tune_jobs.settings import QUICKSTART, load_settings

    settings = load_settings(file or QUICKSTART, overrides=overrides, name=name)
    from tune_jobs.driver import sweep

    return sweep(settings, number_taken_names=name is None).exit_code


def _take_up(file: Path | None, name: str | None, overrides: list[str], extend: int | None) -> int:
    from tune_jobs.reopening import reopen

    found = reopen(file, name=name, overrides=overrides, extend=extend)
    from tune_jobs.driver import resume

    return resume(found.settings, found.folder).exit_code


if __name__ == "__main__":
    app()
