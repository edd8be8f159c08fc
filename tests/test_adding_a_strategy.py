"""docs/adding-a-strategy.md, done to a copy of the packages; then the contract tests run on what comes out."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "adding-a-strategy.md").read_text()
BLOCK = re.compile(r"```(python|diff)\n(.*?)```", re.DOTALL)
FILE_OF_SECTION = {
    "## 2. The entry": "handclip_core/strategies/__init__.py",
    "## 3. The function": "search_spaces/spaces.py",
}


def section(title: str) -> str:
    return GUIDE.split(title)[1].split("\n## ")[0]


def insert(text: str, diff: str) -> str:
    """``text`` with the diff's added lines before the line that follows them there."""
    lines = diff.rstrip("\n").split("\n")
    added = "".join(f"{line[1:]}\n" for line in lines[:-1])
    following = f"{lines[-1][1:]}\n"
    assert all(line.startswith("+") for line in lines[:-1])
    assert text.count(following) == 1, f"{following!r} is not there, or not once"
    return text.replace(following, added + following)


@pytest.mark.spawn
def test_the_guide_leads_to_a_strategy_that_keeps_the_contract(tmp_path: Path) -> None:
    for name in ("handclip_core", "search_spaces", "tests/handclip_core/strategies"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests/conftest.py", "tests/process_pair.py", "tests/limits.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    ((_, code),) = BLOCK.findall(section("## 1. The file"))
    (tmp_path / "handclip_core/strategies/projection_only.py").write_text(code)
    for title, file in FILE_OF_SECTION.items():
        text = (tmp_path / file).read_text()
        for _, diff in BLOCK.findall(section(title)):
            text = insert(text, diff)
        (tmp_path / file).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", "-k", "ProjectionOnly"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"(\d+) passed", done.stdout), done.stdout[-3000:]
