"""The command that starts a sweep: what it refuses, and how."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

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


@pytest.mark.ray
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("resources.device=cuda", "the cluster has no GPU"),
        ("resources.cpus=64", "the largest machine has 2 CPUs"),
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
