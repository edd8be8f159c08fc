"""Weight files as they come: what they may be, and what reading a wrong one raises."""

import logging
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

UNREADABLE = (
    RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, StopIteration,
    pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip
"""What torch, safetensors and open_clip raise for a file that does not hold this model's weights."""


def is_torchscript(path: Path) -> bool:
    """Whether ``path`` is an archive of code and weights, as OpenAI published them."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(entry).name == "constants.pkl" for entry in archive.namelist())


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep open_clip from logging through the root logger; what matters comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def one_line(error: BaseException) -> str:
    """What an error says, on one line of 200 characters at most."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
