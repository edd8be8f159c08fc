"""The command that starts a sweep: what it refuses, and how."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tests.tune_jobs.conftest import ObjectStore
from tests.tune_jobs.simulated import run
from tests.tune_jobs.simulated import settings as simulated
from tune_jobs.config.settings import SweepSettings, dump_settings
from tune_jobs.execution import cluster
from tune_jobs.storage.lease import SweepLease
from tune_jobs.storage.location import BucketLocation, files_below
from tune_jobs.sweep import app


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.yaml"], "missing.yaml: no such file"),
        (["--set", "trails=5"], "unknown key 'trails'"),
        (["--set", "strategies=[bogus]"], "unknown strategy 'bogus'"),
        (["--name", "taken"], "exists already; choose another --name"),
        (["--name", "gone", "--resume"], "gone: no sweep to take up again"),
        (["--name", "gone", "--extend", "5"], "gone: no sweep to take up again"),
        (["--fork", "gone"], "--fork: "),
        (["--warm-start", "gone"], "gone is no sweep's folder"),
        (["--resume", "--warm-start", "gone"], "--resume or --extend and --warm-start: choose one"),
        (["--extend", "3", "--fork", "gone"], "--resume or --extend and --fork: choose one"),
        (["some.yaml", "--fork", "gone"], "--fork: takes its settings from gone, not from some.yaml"),
        (["runs/one", "--resume", "--name", "two"], "--name two: the sweep is named already, runs/one"),
        (["--resume", "--dry-run"], "--dry-run: looks at new sweeps only"),
        (["--dry-run", "--warm-start", "gone"], "gone is no sweep's folder"),
        (["--set", "search.storage=postgresql://me@127.0.0.1:1/base"], "cannot open the study's database"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "taken").mkdir()
    code, output = invoke(*arguments, "--set", f"storage={tmp_path}")
    assert code == 2
    assert len(output.splitlines()) == 1
    assert output.startswith("error: ")
    assert message in output
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_sweep_that_is_there_is_not_taken_for_settings(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(dump_settings(SweepSettings()))
    code, output = invoke(str(tmp_path))
    assert code == 2
    assert output.startswith(f"error: {tmp_path}: is a sweep already; add --resume or --extend")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "storage={missing}"], "storage: {missing}: there is no bucket 'missing-bucket'; make it first"),
        (["--set", "storage={here}", "--name", "taken"], "{taken}: exists already; choose another --name"),
        (["--set", "storage={here}", "--name", "gone", "--resume"], "{here_gone}: no sweep to take up again"),
        (["{here_gone}", "--resume"], "{here_gone}: no sweep to take up again"),
        (["{taken}", "--resume", "--set", "budget=99"], "{taken}: began with other settings (budget 8 is now 99)"),
        (["--set", "storage={here}", "--warm-start", "{here_gone}"], "warm_start: {here_gone} is no sweep's folder"),
        (["--set", "storage={here}", "--warm-start", "gone"], "warm_start: {here_gone} is no sweep's folder"),
        (["--fork", "{taken}"], "--fork: works on sweeps in folders only"),
        (["{keys}", "--resume"], "a URI with keys would be written down"),
    ],
)
def test_of_a_bucket_too_and_it_is_shown_as_it_was_typed(
    object_store: ObjectStore, bucket: BucketLocation, arguments: list[str], message: str
) -> None:
    words = {
        "missing": object_store.place("missing-bucket") / "runs",
        "here": bucket,
        "here_gone": bucket / "gone",
        "taken": bucket / "taken",
        "keys": "s3://key:secret@hands/runs",
    }
    (bucket / "taken/sweep.yaml").write(dump_settings(SweepSettings(name="taken", storage=bucket)).encode())
    code, output = invoke(*(argument.format(**words) for argument in arguments))
    assert code == 2
    assert len(output.splitlines()) == 1
    assert output.startswith(f"error: {message.format(**words)}")
    assert files_below(bucket) == ["taken/sweep.yaml"]


@pytest.mark.ray
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("resources.device=cuda", "the cluster has no GPU"),
        ("resources.cpus=64", "the largest node has 2 CPUs"),
        ("data={source: prepared, folder: /not/there}", "/not/there"),
        ("backbone.name=ViT-Z-99", "ViT-Z-99"),
    ],
)
def test_what_the_machine_or_the_data_cannot_give_is_refused_before_anything_is_written(
    ray_cluster: None, tmp_path: Path, override: str, message: str
) -> None:
    del ray_cluster
    code, output = invoke("--set", f"storage={tmp_path / 'runs'}", "--set", override)
    assert code == 2
    assert message in output.splitlines()[-1]
    assert output.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "runs").exists()


def test_settings_are_listed_and_an_unknown_one_is_refused() -> None:
    code, output = invoke("--settings", "startup_trials")
    assert code == 0
    assert output.startswith("search.startup_trials: whole number, at least 1; default 10\n")
    assert invoke("--settings", "startup_trails") == (
        2,
        "error: no setting is called 'startup_trails'; did you mean 'startup_trials'?\n",
    )


def test_the_options_are_these() -> None:
    """A change here is a change of what people type; settings belong into the YAML file."""
    params = typer.main.get_command(app).params
    options = ["--name", "--set", "--resume", "--extend", "--warm-start", "--fork", "--dry-run", "--export"]
    options += ["--settings", "--schema"]
    assert [param.opts for param in params] == [["settings"], *([option] for option in options)]
    assert not any(param.required for param in params)


@pytest.mark.ray
def test_two_commands_for_one_sweep_the_second_is_refused(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    del ray_cluster
    settings = SweepSettings(
        name="mine",
        data=TINY_DATA,
        backbone=tiny_backbones["vit"],
        strategies=("zero_shot",),
        trials=1,
        storage=tmp_path,
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sweep.yaml").write_text(dump_settings(settings))
    with SweepLease(tmp_path / "mine"):
        code, output = invoke(str(tmp_path / "mine"), "--resume")
    assert code == 2
    assert output.startswith(f"error: {tmp_path / 'mine'}: is being run by process {os.getpid()} on ")
    code, output = invoke(str(tmp_path / "mine"), "--resume")
    assert code == 0, output
    assert (tmp_path / "mine" / "best" / "metrics.json").exists()


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where Ray would be started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster, "connect", started)
    monkeypatch.setattr("ray.init", started)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("option", ["--resume", "--export"])
def test_a_damaged_journal_is_refused_before_ray_is_started(tmp_path: Path, option: str) -> None:
    run(simulated(tmp_path))
    (tmp_path / "simulated" / "journal.jsonl").write_text("half a line\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, output = invoke(str(tmp_path / "simulated"), option)
    assert code == 2
    assert output.startswith(f"error: {tmp_path}/simulated/journal.jsonl: line 1 has no checksum, ")
    assert len(output.splitlines()) == 1
    changed = {path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() != before.get(path)}
    assert {path.name for path in changed} <= {"driver.lock"}


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys; sys.argv = ['sweep', '--help']\n"
        "from tune_jobs.sweep import app\n"
        "try: app()\n"
        "except SystemExit: print(sorted({'torch', 'ray', 'optuna', 'pandas', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--set KEY=VALUE" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
