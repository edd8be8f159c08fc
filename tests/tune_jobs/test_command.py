"""The command ``handclip``."""

import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from handclip_core.__main__ import app as core
from tune_jobs import command


def names_of(app: object) -> set[str]:
    return {found.name for kind in ("commands", "groups") for found in getattr(app, f"registered_{kind}")}


def test_one_command_has_all() -> None:
    assert names_of(command.app) == names_of(core) | {"sweep", "finals", "review", "watch", "train-on-cluster"}
    assert [found.value for found in entry_points(name="handclip")] == ["tune_jobs.command:command"]


def test_the_version(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["handclip", "--version"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert (end.value.code, capfd.readouterr().out) == (0, "handclip 0.1.0\n")


def test_help_needs_no_heavy_import() -> None:
    code = "import sys, tune_jobs.command; print({'torch', 'ray', 'pandas', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_what_a_driver_imports_says_nothing_at_its_end() -> None:
    # Where a cluster is joined no server of workers is started, and the driver looks at backbones itself.
    environment = os.environ | {"RAY_ADDRESS": "nowhere:1"}
    command = [sys.executable, "-c", "import tune_jobs; tune_jobs.preload_workers(); import open_clip"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["handclip", "sweep", "nowhere.yaml"])
    with pytest.raises(SystemExit) as end:
        command.main()
    captured = capfd.readouterr()
    assert (end.value.code, captured.out, len(captured.err.splitlines())) == (2, "", 1)
