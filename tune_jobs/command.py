"""The command ``handclip``: everything that the packages can do, under one name."""

from importlib.metadata import version
from typing import Annotated

import typer

from handclip_core.__main__ import app as core
from handclip_core.__main__ import run
from handclip_core.signals import end_on_signals
from tune_jobs import finalists, review, sweep, train, watch

app = typer.Typer(
    help="Search, train, measure and use fine-tuned CLIP models that recognise people by their hands.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.registered_commands.extend(core.registered_commands)
app.registered_groups.extend(core.registered_groups)
app.command("sweep")(sweep.main)
app.command("finals")(finalists.main)
app.command("review")(review.main)
app.command("watch")(watch.main)
app.command("train-on-cluster")(train.main)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"handclip {version('handclip-search')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run ``handclip``."""
    run(app, "handclip")


def command() -> None:
    """Run ``handclip`` as a process of its own, which signals end as they end the files that it stands for."""
    end_on_signals()
    main()
