"""The report: ``python tune_jobs/review.py NAME [--storage runs] [--out FOLDER]``, at any time, also amid a sweep."""

import sys
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run as a script, Python looks for modules beside it.
    sys.path[0] = str(ROOT)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Name = Annotated[
    str, typer.Argument(help="Name of a sweep, its folder, or the URI of one in a bucket.", show_default=False)
]
Storage = Annotated[str, typer.Option(help="Folder of the sweeps, or the URI of a bucket.")]
Out = Annotated[
    str | None, typer.Option(help="Write the report there; else into the sweep's folder.", show_default=False)
]


@app.command()
def main(name: Name, storage: Storage = "runs", out: Out = None) -> None:
    """Write a sweep's report from what its journal holds now: report.html, report.md and report.json.

    The page needs no network and no other file. Nothing is run, and a sweep that is under way is not disturbed.
    """
    from tune_jobs import exit_code

    raise typer.Exit(exit_code(lambda: _review(name, storage, out)))


def _review(name: str, storage: str, out: str | None) -> int:
    from handclip_core.paths import output_folder
    from tune_jobs.lifecycle.reading import named_sweep, read_record

    given = None if out is None else output_folder(out, option="--out")
    sweep = read_record(named_sweep(name, storage))
    from tune_jobs.lifecycle.review import report, write_report

    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
    files = write_report(sweep) if given is None else report(sweep).write(given)
    print("\n".join(map(str, files)))
    return 0


if __name__ == "__main__":
    from handclip_core.__main__ import run

    run(app, "review.py")
