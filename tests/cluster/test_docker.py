"""The Dockerfile: hadolint, and that it agrees with the files it takes its facts from."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "cluster" / "docker" / "Dockerfile"
TEXT = DOCKERFILE.read_text().replace("\\\n", " ")
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_that_is_copied_is_there_and_not_kept_from_the_build() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [shlex.split(line)[1:-1] for line in LINES if line.startswith("COPY") and "--from" not in line]
    sources = {source for group in copied for source in group}
    assert sources == let_through
    assert all((ROOT / source).exists() for source in sources)


def test_both_stages_install_from_the_lock_file_and_stand_on_the_same_python() -> None:
    images = [line.split()[1] for line in LINES if line.startswith("FROM")]
    assert len(images) == 2
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:3\.1[123]\.\d+-slim-bookworm", images[0])
    syncs = [line for line in LINES if "uv sync" in line]
    assert syncs
    assert all("--frozen --no-dev" in line for line in syncs)
    assert "UV_COMPILE_BYTECODE=1" in TEXT


def test_uv_is_that_of_the_makefile() -> None:
    (wanted,) = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert re.findall(r"uv==(\S+)", TEXT) == [wanted]


def test_the_user_is_a_number_other_than_roots() -> None:
    (user,) = [line.split()[1] for line in LINES if line.startswith("USER")]
    assert all(int(number) > 0 for number in user.split(":"))


def test_ray_runs_with_the_settings_of_the_scripts() -> None:
    script = "source cluster/env.sh; env | grep ^RAY_"
    shell = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    (settings,) = [line for line in LINES if line.startswith("ENV PATH=")]
    assert set(shell.stdout.split()) == {word for word in shlex.split(settings) if word.startswith("RAY_")}
