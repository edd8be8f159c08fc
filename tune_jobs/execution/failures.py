"""Why a trial failed: in one line for people, and what kind of failure it was for the sweep."""

import re
from pathlib import Path

import torch
from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.tune.experiment import Trial

from handclip_core.documents import shortened
from handclip_core.engine.objective import DivergedError
from handclip_core.errors import InputError
from tune_jobs.execution.trainable import LostStateError
from tune_jobs.scheduling.low_memory import is_low_memory, read_low_memory
from tune_jobs.scheduling.retries import Failure, FailureKind
from tune_jobs.storage.retry import UnwritableError

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 300
"""Characters of a reason that are kept."""
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""How CUDA and the C library say it."""
OUT_OF_SPACE = ("no space left on device", "disk quota exceeded")
"""How systems say it, and Ray of folders that it makes itself."""


def failure_of(trial: Trial) -> Failure:
    """The last error of ``trial``: kind and first line of what its code raised, or what Ray says of a lost process."""
    if trial.pickled_error_file is None:
        text = traceback_of(trial)
        if is_low_memory(text):
            return _low_memory(text)
        return Failure(shortened(_lines(text)[-1], LONGEST), FailureKind.TRANSIENT)
    error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    actor = error.actor_id or "" if isinstance(error, RayActorError) else ""
    kind = kind_of(error)
    if kind is FailureKind.LOW_MEMORY:
        return _low_memory(str(_cause(error)), actor)
    return Failure(describe_error(error), kind, actor)


def kind_of(error: BaseException) -> FailureKind:
    """The kind of an error that Ray hands over."""
    cause = _cause(error)
    if isinstance(cause, RayActorError) and cause.preempted:
        return FailureKind.MOVED
    # Looked for before InputError, of which it is one.
    if isinstance(cause, UnwritableError):
        return FailureKind.NODE
    if isinstance(cause, DivergedError | InputError):
        return FailureKind.FATAL
    if isinstance(cause, LostStateError):
        return FailureKind.LOST_CHECKPOINT
    if isinstance(cause, torch.OutOfMemoryError | MemoryError):
        return FailureKind.OUT_OF_MEMORY
    text = str(cause).lower()
    # What a trial itself raised may say anything; only errors of Ray tell of a node.
    if isinstance(cause, OutOfMemoryError) or (isinstance(cause, RayActorError) and is_low_memory(text)):
        return FailureKind.LOW_MEMORY
    if any(words in text for words in OUT_OF_SPACE):
        return FailureKind.NODE
    return FailureKind.OUT_OF_MEMORY if any(words in text for words in OUT_OF_MEMORY) else FailureKind.TRANSIENT


def traceback_of(trial: Trial) -> str:
    """The whole of what Ray knows about the last error of ``trial``, without the colours of terminals."""
    return COLOURS.sub("", Path(trial.error_file).read_text(encoding="utf-8")) if trial.error_file else ""


def drop_files_of(trial: Trial) -> None:
    """Remove what Tune itself has written of an error, which it would put in the place of the sweep's own files."""
    for name in (trial.error_file, trial.pickled_error_file):
        if name:
            Path(name).unlink(missing_ok=True)


def describe_error(error: BaseException) -> str:
    """One line for an error that Ray hands over."""
    if kind_of(error) is FailureKind.LOW_MEMORY:
        return str(read_low_memory(str(_cause(error))))
    if isinstance(error, RayTaskError):
        cause = error.cause
        lines = _lines(str(cause))
        return shortened(f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__, LONGEST)
    lines = _lines(str(error)) or [type(error).__name__]
    # An error in an actor's constructor comes as the text of a traceback, which ends with the cause.
    return shortened(lines[-1] if "creation task" in lines[0] else lines[0], LONGEST)


def _cause(error: BaseException) -> BaseException:
    return error.cause if isinstance(error, RayTaskError) else error


def _low_memory(text: str, actor: str = "") -> Failure:
    found = read_low_memory(text, actor=actor)
    return Failure(str(found), FailureKind.LOW_MEMORY, actor, found)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
