"""What is exported of a sweep some of whose saved states are gone, and to where."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handclip_core.errors import InputError
from tests.tune_jobs.simulated import run, settings
from tune_jobs.execution.cluster import WorkerError
from tune_jobs.lifecycle import export_best as module
from tune_jobs.lifecycle.export_best import export_best, export_best_left, replaced
from tune_jobs.lifecycle.folders import BEST
from tune_jobs.state.trial import TrialView
from tune_jobs.storage.location import BucketLocation, files_below


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The states that were exported: one that is there counts as exported, without any training."""
    taken: list[Path] = []

    def export(where: Path, experiment: Any, checkpoint: Path, device: str) -> None:
        if not (checkpoint / "handclip_best.pth").exists():
            export_best(where, experiment, checkpoint, device)
        taken.append(checkpoint)

    monkeypatch.setattr(module, "export_best", export)
    return taken


def call(function: Callable[..., object], *args: str) -> None:
    function(*args, "cpu")


def with_weights(views: list[TrialView]) -> list[TrialView]:
    return [view for view in views if view.has_score and view.best_is_saved]


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()


def test_without_the_winners_state_the_best_that_is_left_is_exported_and_that_is_said(
    tmp_path: Path, exported: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ready = run(settings(tmp_path, keep_checkpoints=3))
    where = tmp_path / "simulated"
    first, second, *_ = with_weights(ready.all_trials.ranked())
    remove(where / str(first.checkpoint))
    capsys.readouterr()
    export_best_left(ready.all_trials, where, call, threads=1)
    assert exported == [where / str(second.checkpoint)]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"trial {first.number} ({first.score:.4f}) cannot be exported: ")
    assert line.endswith("training_log.csv: no such file; the best that is left is taken")
    assert not (where / BEST).exists()


def test_a_lost_process_says_nothing_of_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ready, asked = run(settings(tmp_path)), []

    def lost(function: Callable[..., object], *_: str) -> None:
        asked.append(function)
        raise WorkerError("export_told did not come to its end")

    capsys.readouterr()
    with pytest.raises(InputError, match=r"best/ is not written: export_told did not come to its end; .* --resume"):
        export_best_left(ready.all_trials, tmp_path / "simulated", lost, threads=1)
    assert len(asked) == 1  # no other trial in its place
    assert capsys.readouterr().out == ""


def test_with_no_state_left_that_is_one_line(tmp_path: Path, exported: list[Path]) -> None:
    ready = run(settings(tmp_path))
    where = tmp_path / "simulated"
    for view in with_weights(ready.all_trials.ranked()):
        remove(where / str(view.checkpoint))
    with pytest.raises(InputError, match="no trial is left whose weights can be read, so best/ is not written"):
        export_best_left(ready.all_trials, where, call, threads=1)
    assert exported == []


def test_folders_in_a_replaced_one_go_to_the_bucket_with_it(bucket: BucketLocation) -> None:
    for number in (1, 2):
        with replaced(bucket / "model") as folder:
            (folder / "members" / f"{number}").mkdir(parents=True)
            (folder / "members" / f"{number}" / "config.json").write_text("{}")
            (folder / "ensemble.json").write_text(f"{number}")
    assert set(files_below(bucket / "model")) == {"ensemble.json", "members/2/config.json"}
