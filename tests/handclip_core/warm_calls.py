"""What the tests of forked processes call there."""

import os
from pathlib import Path

from handclip_core.errors import InputError


def write_pid(path: Path) -> None:
    """Say which process this is."""
    path.write_text(str(os.getpid()))
    print("written", flush=True)


def refuse() -> None:
    """As what a user can mend."""
    raise InputError("data: none")


def die() -> None:
    """As if it was killed."""
    os._exit(9)
