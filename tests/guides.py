"""Guides in docs/ done to a copy of the packages, in which tests run then."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```(python|diff)\n(.*?)```", re.DOTALL)


class Guide:
    """A page of docs/ whose sections hold the code of a file or diffs to others."""

    def __init__(self, name: str) -> None:
        self.text = (ROOT / "docs" / name).read_text()

    def blocks(self, title: str) -> list[str]:
        """The code of a section, block by block."""
        return [code for _, code in BLOCK.findall(self.text.split(title)[1].split("\n## ")[0])]

    def follow(self, folder: Path, *, copied: Sequence[str], new: str, changed: Mapping[str, str]) -> None:
        """Copy files and folders into ``folder``, write the first section as the file ``new`` and apply the others.

        ``changed`` are files by the title of the section with their diffs.
        """
        for name in copied:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        (code,) = self.blocks("## 1. The file")
        (folder / new).write_text(code)
        for title, file in changed.items():
            text = (folder / file).read_text()
            for diff in self.blocks(title):
                text = applied(text, diff)
            (folder / file).write_text(text)


def applied(text: str, diff: str) -> str:
    """``text`` with a diff's context and removed lines, which stand there once, made its context and added lines."""
    lines = diff.rstrip("\n").split("\n")
    before, after = (
        "".join(f"{line[1:]}\n" for line in lines if not line.startswith(without)) for without in ("+", "-")
    )
    assert text.count(before) == 1, f"{before!r} is not there, or not once"
    return text.replace(before, after)


def passed(folder: Path, *arguments: str) -> int:
    """How many tests pass in ``folder``; it fails if one does not."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    found = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and found, done.stdout[-3000:]  # noqa: PT018 - one without the other says nothing
    return int(found.group(1))
