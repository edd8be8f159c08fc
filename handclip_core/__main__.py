"""``python -m handclip_core``: everything that is useful without a cluster."""

import sys

from handclip_core.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()

import typer

from handclip_core.commands import prepare, pretrain, runs, serving, settings
from handclip_core.commands.ensemble import ensemble
from handclip_core.commands.search import search
from handclip_core.errors import InputError
from handclip_core.paths import refusal

app = typer.Typer(
    help="Fine-tune CLIP to recognise people by their hands, and measure it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(prepare.app, name="prepare")
app.command("show")(runs.show)
app.command("train")(runs.train)
app.command("evaluate")(runs.evaluate)
app.command("compare")(runs.compare)
app.command("ensemble")(ensemble)
app.command("embed")(serving.embed)
app.command("enrol")(serving.enrol)
app.command("identify")(serving.identify)
app.command("verify")(serving.verify)
app.command("calibrate")(serving.calibrate)
app.command("export")(serving.export)
app.command("settings")(settings.settings)
app.command("search")(search)
app.command("pretrain")(pretrain.pretrain)


def main() -> None:
    """Run a command of ``python -m handclip_core``."""
    run(app, "python -m handclip_core")


def run(commands: typer.Typer, name: str) -> None:
    """Run one of ``commands``; what the user can mend is one line on stderr and exit code 2."""
    try:
        commands(prog_name=name)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if (refused := refusal(error)) is None:
            raise
        print(f"error: {refused}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
