"""Why a trial failed, in one line."""

from pathlib import Path

from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

LONGEST = 300
"""Characters of a reason that are kept."""


def reason_of(trial: Trial) -> str:
    """The last error of ``trial``: kind and first line of what its code raised, or what Ray says of a lost process."""
    if trial.pickled_error_file is not None:
        return describe_error(cloudpickle.loads(Path(trial.pickled_error_file).read_bytes()))
    return _shortened(_lines(traceback_of(trial))[-1])


def traceback_of(trial: Trial) -> str:
    """The whole of what Ray knows about the errors of ``trial``."""
    return Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""


def describe_error(error: BaseException) -> str:
    """One line for an error that Ray hands over."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        lines = _lines(str(cause))
        return _shortened(f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__)
    lines = _lines(str(error)) or [type(error).__name__]
    # An error in an actor's constructor comes as the text of a traceback, which ends with the cause.
    return _shortened(lines[-1] if "creation task" in lines[0] else lines[0])


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
