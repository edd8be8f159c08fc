"""``python -m handclip_core``: everything that is useful without a cluster."""

import sys
from contextlib import suppress
from typing import Any

from handclip_core.signals import end_on_signals, exit_after_all

if __name__ == "__main__":
    end_on_signals()

import typer

from handclip_core.commands import prepare, pretrain, runs, serving, settings
from handclip_core.commands.ensemble import ensemble
from handclip_core.commands.search import search
from handclip_core.errors import InputError
from handclip_core.paths import refusal

MISTYPED: Any = typer.BadParameter.__bases__[0]
"""What Typer raises for an option or a value that it cannot read; it exports this one kind alone."""

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
    exit_after_all(_code_of(commands, name))


def _code_of(commands: typer.Typer, name: str) -> int:
    """The exit code of one of ``commands``, after what it has to say."""
    try:
        if "" in sys.argv[1:]:
            raise InputError("an argument is empty (of a variable that is not set?); leave it out, or say what it is")
        code: int = commands(prog_name=name, standalone_mode=False) or 0
        with suppress(BrokenPipeError):  # whoever read has gone
            sys.stdout.flush()
        return code
    except MISTYPED as error:
        if "\n" in (message := error.format_message()):  # the help, which is shown if nothing is asked for
            error.show()
        else:
            print(f"error: {message.rstrip('.')}; see {name} --help", file=sys.stderr)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        if (refused := refusal(error)) is None:
            raise
        print(f"error: {refused}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
