"""Commands of cluster/README.md: Ray's are parsed by Ray's own command line, and every file that one names is there."""

import re
import shlex
from typing import Any

import click
import pytest
from ray.scripts.scripts import cli

from tests.test_documented_commands import BLOCK, ROOT

TEXT = (ROOT / "cluster" / "README.md").read_text(encoding="utf-8")
LINES = [line for _, block in BLOCK.findall(TEXT) for line in block.replace("\\\n", " ").splitlines()]
RAY = [line for line in LINES if re.match(r"(\.venv/bin/)?ray ", line)]


def parsed(line: str) -> None:
    """Parse a command of Ray's, up to the program that it submits; raises click's errors."""
    words = shlex.split(line.partition(" && ")[0].partition(" > ")[0], comments=True)[1:]
    command: Any = cli
    context = command.context_class(command, info_name="ray")
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        context = command.context_class(command, info_name=name, parent=context)
    command.make_parser(context).parse_args([*words])


@pytest.mark.parametrize("line", RAY)
def test_ray_has_the_command_and_its_options(line: str) -> None:
    parsed(line)


def test_an_option_that_ray_lacks_is_noticed() -> None:
    assert len(RAY) >= 10
    with pytest.raises(click.UsageError):
        parsed("ray job submit --adress x -- python y.py")


def test_files_that_are_named_are_there() -> None:
    named = {name for line in LINES for name in re.findall(r"(?<![\w/.])(?:cluster|tune_jobs)/[\w./-]+", line)}
    assert len(named) >= 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
