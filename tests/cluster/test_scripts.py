"""Shell scripts of the clusters: shellcheck for all, and what the entrypoint of jobs does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "cluster").rglob("*.sh"), *(ROOT / "cluster").rglob("*.sbatch")])
PYTHON = """#!/usr/bin/env bash
echo "python $*"
[[ "$*" == *--resume* ]] && exit "$RESUMED"
exit "$STARTED"
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    if not shellcheck.exists():
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [shellcheck, "-x", script], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK) or script.suffix == ".sbatch"


@pytest.mark.parametrize(
    ("resumed", "started", "code", "calls"),
    [
        (0, 9, 0, 1),  # there was a sweep, and now it is finished
        (1, 9, 1, 1),  # it went on, and failed
        (130, 9, 130, 1),  # it went on, and was stopped
        (2, 0, 0, 2),  # there was none
        (2, 2, 2, 2),  # the settings are wrong
    ],
)
def test_a_job_goes_on_with_its_sweep_or_starts_it(
    tmp_path: Path, resumed: int, started: int, code: int, calls: int
) -> None:
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(
        [ROOT / "cluster" / "sweep.sh", "my settings.yaml", "first", "s3://bucket/runs", "--set", "trials=3"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "RESUMED": str(resumed), "STARTED": str(started)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == code
    common = "python tune_jobs/sweep.py my settings.yaml --name first --set storage=s3://bucket/runs --set trials=3"
    said = [line for line in done.stdout.splitlines() if line.startswith("python")]
    assert said == [f"{common} --resume", common][:calls]


def test_too_few_arguments_are_told_what_is_wanted() -> None:
    done = subprocess.run(
        [ROOT / "cluster" / "sweep.sh", "settings.yaml"], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "usage: cluster/sweep.sh SETTINGS.yaml NAME STORAGE [OPTION...]\n"
