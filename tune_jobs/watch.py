"""A sweep as it goes: ``python tune_jobs/watch.py NAME``, on any machine that sees the storage."""

import sys
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run as a script, Python looks for modules beside it.
    sys.path[0] = str(ROOT)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="Name of a sweep, its folder or its URI.", show_default=False)]
Storage = Annotated[str, typer.Option(help="Folder of the sweeps, or the URI of a bucket.")]
Every = Annotated[float, typer.Option(min=1, help="Seconds between two looks at the journal.")]
Once = Annotated[bool, typer.Option("--once", help="Say how it stands now, and end.")]


@app.command()
def main(name: Name, storage: Storage = "runs", every: Every = 30.0, once: Once = False) -> None:
    """Say how a sweep stands until it ends: progress, time left, best a strategy, what runs, what failed.

    It reads the journal and changes nothing; ending it leaves the sweep alone.
    """
    from tune_jobs import exit_code

    raise typer.Exit(exit_code(lambda: _watch(name, storage, every, once)))


def _watch(name: str, storage: str, every: float, once: bool) -> int:
    from tune_jobs.lifecycle.reading import named_sweep
    from tune_jobs.lifecycle.watch import watch

    return watch(named_sweep(name, storage), every_s=every, once=once)


if __name__ == "__main__":
    from handclip_core.__main__ import run

    run(app, "watch.py")
