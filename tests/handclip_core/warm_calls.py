"""What the tests of forked processes call there."""

import errno
import os
import time
from pathlib import Path

from handclip_core.errors import InputError


def write_pid(path: str) -> None:
    """Say which process this is."""
    Path(path).write_text(str(os.getpid()))
    print("written", flush=True)


def doubled(text: str) -> list[str | int]:
    """An answer, and which process it is from."""
    return [text, text, os.getpid()]


def refuse() -> None:
    """As what a user can mend."""
    raise InputError("data: none")


def die() -> None:
    """As if it was killed."""
    os._exit(9)


def fill() -> None:
    """As where a disk is full."""
    raise OSError(errno.ENOSPC, "no", "x")


def write_pid_and_wait(path: str) -> None:
    """Say which process this is, and work for long."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def wait() -> None:
    """Say which process this is, and work for long."""
    print(os.getpid(), flush=True)
    time.sleep(600)
