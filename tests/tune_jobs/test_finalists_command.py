"""The command that holds finals: its options, what it refuses, and how."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tune_jobs.finalists import app, main


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_the_command_line_is_frozen() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(main).parameters.items()}
    assert defaults == {
        "name": inspect.Parameter.empty,
        "top": 5,
        "seeds": 3,
        "final_test": False,
        "storage": "runs",
    }
    shown = invoke("--help")[1]
    options = sorted({word for word in shown.replace(".", " ").split() if word.startswith("--")})
    assert options == ["--final-test", "--help", "--seeds", "--storage", "--top"]


def test_an_unknown_sweep_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    code, output = invoke("nothing", "--storage", str(tmp_path))
    assert code == 2
    assert output == (
        f"error: {tmp_path / 'nothing'}: no sweep of this name; there are no sweeps; give their folder as --storage\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--top", "--seeds"])
def test_numbers_below_one_are_refused(option: str, tmp_path: Path) -> None:
    code, output = invoke("nothing", "--storage", str(tmp_path), option, "0")
    assert code == 2
    assert f"Invalid value for '{option}'" in output


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys; sys.argv = ['finalists', '--help']\n"
        "from tune_jobs.finalists import app\n"
        "try: app()\n"
        "except SystemExit: print(sorted({'torch', 'ray', 'optuna', 'pandas', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--final-test" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
