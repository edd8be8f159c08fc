"""The sweep: ``python tune_jobs/sweep.py [SETTINGS.yaml] [--name NAME] [--set KEY=VALUE ...]``."""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":
    # Run as a script, Python looks for modules beside it; a Ray job runs the code that was submitted, installed or not.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from handclip_core.signals import end_on_signals

    end_on_signals()

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

File = Annotated[
    str | None,
    typer.Argument(
        help="Settings in YAML, or a sweep's folder or URI; without it, the quickstart.", show_default=False
    ),
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
WarmStart = Annotated[
    str | None, typer.Option(metavar="SWEEP", help="Let the search learn from another sweep.", show_default=False)
]
Fork = Annotated[
    str | None,
    typer.Option(metavar="SWEEP", help="Begin another sweep from one, changed by --set.", show_default=False),
]
Export = Annotated[
    bool,
    typer.Option("--export", help="Write a sweep's leaderboard, study and TensorBoard logs anew from its journal."),
]
Settings = Annotated[
    bool, typer.Option("--settings", help="Print all settings, or those called as the argument says, as in search.")
]
Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON schema of settings files, for editors.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what a sweep would take, and leave nothing behind.")]


@app.command()
def main(
    settings: File = None,
    name: Name = None,
    set_: Overrides = None,
    resume: Resume = False,
    extend: Extend = None,
    warm_start: WarmStart = None,
    fork: Fork = None,
    dry_run: DryRun = False,
    export: Export = False,
    list_settings: Settings = False,
    schema: Schema = False,
) -> None:
    """Search strategies and hyperparameters for recognising people by their hands.

    Joins the Ray cluster at RAY_ADDRESS (a Ray job sets it), else uses this machine alone. Results go to runs/NAME, or
    below the setting storage.
    """
    # Imports wait until they are needed: help and mistyped options are answered before torch and Ray are loaded.
    from tune_jobs import exit_code

    again, overrides = resume or extend is not None, set_ or []

    def command() -> int:
        if list_settings or schema:
            return _print_settings(settings, schema=schema)
        _refuse_contradictions(settings, name, resume=again, new=warm_start, fork=fork, dry=dry_run, export=export)
        if again or export:
            return _take_up(settings, name, overrides, extend, export=export)
        if fork is not None:
            return _fork(fork, name, overrides)
        return _sweep(settings, name, overrides, warm_start, dry_run=dry_run)

    raise typer.Exit(exit_code(command))


def _print_settings(key: str | None, *, schema: bool) -> int:
    from handclip_core.settings_reference import describe_settings, json_schema
    from tune_jobs.config.settings import SweepSettings

    print(json_schema(SweepSettings) if schema else describe_settings(SweepSettings, key))
    return 0


def _refuse_contradictions(
    file: str | None, name: str | None, *, resume: bool, new: str | None, fork: str | None, dry: bool, export: bool
) -> None:
    from handclip_core.errors import InputError

    given = {"--resume or --extend": resume, "--warm-start": new is not None, "--fork": fork is not None}
    given["--export"] = export
    named = [option for option, is_given in given.items() if is_given]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)}: choose one")
    if fork is not None and file is not None:
        raise InputError(f"--fork: takes its settings from {fork}, not from {file}; change them with --set")
    if dry and (resume or export or fork is not None):
        raise InputError("--dry-run: looks at new sweeps only; give their settings")
    if (resume or export) and name is not None and file is not None and not file.endswith((".yaml", ".yml")):
        raise InputError(f"--name {name}: the sweep is named already, {file}; leave out one of them")


def _sweep(file: str | None, name: str | None, overrides: list[str], warm_start: str | None, *, dry_run: bool) -> int:
    from handclip_core.errors import InputError
    from handclip_core.paths import user_path
    from tune_jobs import preload_workers
    from tune_jobs.config.settings import QUICKSTART, SETTINGS, load_settings
    from tune_jobs.storage.location import parse_location

    given = user_path(file) if file else QUICKSTART
    if (given / SETTINGS).is_file():
        raise InputError(f"{file}: is a sweep already; add --resume or --extend, or begin another from it with --fork")
    settings = load_settings(given, overrides=overrides, name=name)
    if warm_start is not None:
        settings = settings.model_copy(update={"warm_start": parse_location(warm_start)})
    if dry_run:
        from tune_jobs.lifecycle.dry_run import estimate

        return estimate(settings)
    preload_workers()
    from tune_jobs.lifecycle.run import sweep

    return sweep(settings, number_taken_names=name is None).exit_code


def _fork(other: str, name: str | None, overrides: list[str]) -> int:
    from tune_jobs import preload_workers
    from tune_jobs.lifecycle.reopening import forked_settings
    from tune_jobs.storage.location import parse_location

    preload_workers()
    found = forked_settings(parse_location(other), name=name, overrides=overrides)
    from tune_jobs.lifecycle.run import sweep

    return sweep(found.settings, number_taken_names=name is None, forked=found.folder).exit_code


def _take_up(file: str | None, name: str | None, overrides: list[str], extend: int | None, *, export: bool) -> int:
    from tune_jobs import preload_workers
    from tune_jobs.lifecycle.reopening import reopen
    from tune_jobs.storage.location import location_of, parse_location

    if not export:  # which needs no cluster
        preload_workers()
    found = reopen(parse_location(file) if file else None, name=name, overrides=overrides, extend=extend)
    from tune_jobs.lifecycle import run

    if not export:
        return run.resume(found.settings, found.folder).exit_code
    run.export(found.settings, location_of(found.settings.storage, found.folder))
    return 0


if __name__ == "__main__":
    from handclip_core.__main__ import run

    run(app, "sweep.py")
