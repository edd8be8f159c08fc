"""Every command in the documents is one that there is, with options that it has; those of the tutorial are run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.limits import LIMIT_S
from tune_jobs import finalists, review, sweep, train, watch
from tune_jobs.command import app

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "README.md", ROOT / "cluster" / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAM = r"handclip|-m handclip_core|tune_jobs/(?:sweep|finalists|review|train|watch)\.py"
STARTS = re.compile(rf"(?:^|-- )\s*(?:\S*python3? )?(?:\S*/)?({PROGRAM})(?= |$)(.*)")
FILES = {
    "tune_jobs/sweep.py": sweep.app,
    "tune_jobs/finalists.py": finalists.app,
    "tune_jobs/review.py": review.app,
    "tune_jobs/train.py": train.app,
    "tune_jobs/watch.py": watch.app,
}
UsageError: type[Exception] = typer.BadParameter.__bases__[0]
GLOBAL = {"--version", "--install-completion", "--help"}


SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Program and words of every command of ours in a document: in code blocks, and between backticks in its text.

    Brackets in the text are those of what may be left out.
    """
    found = []
    blocks = [block.replace("\\\n", " ") for _, block in BLOCK.findall(text)]
    spans = [re.sub(r"[][]", "", span) for span in SPAN.findall(BLOCK.sub("", text)) if " " in span]
    for block in [*blocks, *spans]:
        for line in block.splitlines():
            match = STARTS.search(line)
            if match:
                lexer = shlex.shlex(match.group(2), posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                words = list(lexer)
                end = next((at for at, word in enumerate(words) if word in {">", "|", "&", "&&", ";"}), len(words))
                found.append((match.group(1), words[:end]))
    return found


def check(program: str, words: list[str]) -> None:
    """Parse the words as the program does; raises typer's errors."""
    command: Any = typer.main.get_command(FILES.get(program, app))
    context = command.context_class(command, info_name=program)
    words = [word for word in words if word != "..."]
    while hasattr(command, "resolve_command"):
        if not words or words[0] in GLOBAL:
            return
        name, command, words = command.resolve_command(context, words)
        context = command.context_class(command, info_name=name, parent=context)
    command.make_parser(context).parse_args([*words])


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_in_the_documents_have_the_options_that_are_given(path: Path) -> None:
    wrong = []
    for program, words in commands(path.read_text(encoding="utf-8")):
        try:
            check(program, words)
        except UsageError as error:
            wrong.append(f"{program} {shlex.join(words)}: {error}")
    assert wrong == []


def test_a_command_or_an_option_that_there_is_not_is_noticed() -> None:
    text = "```\nhandclip swep x\n.venv/bin/python tune_jobs/sweep.py \\\n   a.yaml --resum  # on\n```\n"
    first, second = commands(text)
    assert second == ("tune_jobs/sweep.py", ["a.yaml", "--resum"])
    for program, words in (first, second):
        with pytest.raises(UsageError):
            check(program, words)
    assert len(commands((ROOT / "docs" / "tutorial.md").read_text())) == 13


SMALLER = {
    "--people 48": "--people 12",
    "trials: 8": "trials: 4",
    "budget: 6": "budget: 1",
    "--top 2 --seeds 2": "--top 1 --seeds 1",
}
"""What makes the tutorial's data and sweep as small as they can be."""


@pytest.mark.faults  # a sweep, its finals and an environment of its own: minutes
@pytest.mark.ray
def test_the_tutorial_leads_from_images_to_a_model_elsewhere_with_the_rank_1_that_was_measured(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for large, small in SMALLER.items():
        assert text.count(large) == 1
        text = text.replace(large, small)
    blocks = BLOCK.findall(text)
    for kind, block in blocks:
        if kind in ("python", "yaml"):
            name = block.split("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(block)
    program = tmp_path / "bin" / "handclip"
    program.parent.mkdir()
    lines = ["from tune_jobs.command import command", "if __name__ == '__main__':", "    command()"]
    program.write_text("\n".join([f"#!{sys.executable}", *lines, ""]))
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HANDCLIP_STATE": str(tmp_path / "state"),
    }
    said = []
    for kind, block in blocks:
        if kind == "bash":
            ran = subprocess.run(
                ["bash", "-e", "-c", block],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
            )
            assert ran.returncode == 0, f"{block}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
            said.append(ran.stdout)
    rank_1 = next(re.search(r"rank-1 ([\d.]+), measured ([\d.]+)", one) for one in reversed(said) if "measured" in one)
    assert rank_1 is not None
    assert rank_1.group(1) == rank_1.group(2)
    assert (tmp_path / "answers" / "sheet.jpg").exists()
    installed = subprocess.run(
        [tmp_path / "alone" / "bin" / "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    assert not re.search("torch|open_clip|handclip|pandas", installed.stdout)
