"""The finals: ``python tune_jobs/finalists.py NAME [--top 5] [--seeds 3] [--final-test] [--storage runs]``."""

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

Name = Annotated[str, typer.Argument(help="Name of a sweep that is over, finished or interrupted.", show_default=False)]
Top = Annotated[int, typer.Option(min=1, help="So many of the best configurations run again.")]
Seeds = Annotated[int, typer.Option(min=1, help="Each on so many fresh seeds, the same for all.")]
FinalTest = Annotated[
    bool, typer.Option("--final-test", help="Fit the winner on all training identities, look at test.")
]
Storage = Annotated[str, typer.Option(help="Folder of the sweeps, or the URI of a bucket.")]


@app.command()
def main(name: Name, top: Top = 5, seeds: Seeds = 3, final_test: FinalTest = False, storage: Storage = "runs") -> None:
    """Choose a sweep's winner: its best configurations and every strategy's best and default, on fresh paired seeds.

    Runs on the Ray cluster at RAY_ADDRESS, else on this machine. Results go to STORAGE/NAME/finals; runs that are there
    already are not run again. With --final-test the test identities are opened, and STORAGE/test_looks.jsonl says so.
    """
    from tune_jobs import exit_code

    raise typer.Exit(exit_code(lambda: _finals(name, storage, top, seeds, final_test)))


def _finals(name: str, storage: str, top: int, seeds: int, final_test: bool) -> int:
    from handclip_core.paths import output_folder, user_path
    from tune_jobs import preload_workers
    from tune_jobs.finals.past_sweep import read_sweep
    from tune_jobs.storage.location import BucketLocation, absolute, parse_location

    preload_workers()
    place = absolute(parse_location(storage))
    if isinstance(place, BucketLocation):
        place.check()
    else:
        user_path(name)
        output_folder(place, option="--storage")
    past = read_sweep(place / name)
    from tune_jobs.finals.run import hold_finals

    return hold_finals(past, top=top, seeds=seeds, with_test=final_test)


if __name__ == "__main__":
    from handclip_core.__main__ import run

    run(app, "finalists.py")
