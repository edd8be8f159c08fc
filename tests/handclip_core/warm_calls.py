"""What the tests of forked processes call there."""

import os
from pathlib import Path

from handclip_core.errors import InputError


def write_pid(path: str) -> None:
    """Say which process this is."""
    Path(path).write_text(str(os.getpid()))
    print("written", flush=True)


def refuse() -> None:
    """As what a user can mend."""
    raise InputError("data: none")


def die() -> None:
    """As if it was killed."""
    os._exit(9)
