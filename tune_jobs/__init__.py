"""The search service: the only package that imports Ray."""

import os
import sys
from collections.abc import Callable

from handclip_core import signals
from handclip_core.errors import InputError
from handclip_core.paths import refusal
from handclip_core.warm_python import start_warm_python

PRELOADED = (
    *("open_clip", "handclip_core.runs.drive", "handclip_core.models.lora", "search_spaces.joint"),
    *("tune_jobs.state.trials", "tune_jobs.storage.retry", "pandas", "pyarrow.fs", "requests", "jsonschema"),
)
"""What every worker imports, and some of what Ray does; not Ray, which reads a worker's variables at its import."""


def exit_code(command: Callable[[], int]) -> int:
    """What ``command`` returns; 2 for what the user can mend, told in one line. Does not return after a signal."""
    try:
        code = command()
        signals.leave_if_told()
        return code
    except InputError as error:
        signals.leave_if_told()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        signals.leave_if_told()
        if (refused := refusal(error)) is None:
            raise
        print(f"error: {refused}", file=sys.stderr)
        return 2


def preload_workers() -> None:
    """Let the workers of a cluster that this process starts be forks of one that has all imported.

    To be called before Ray is imported. Where a cluster is joined, its nodes start their workers themselves; where
    Ray's hook for runtime environments is set, it says what runs them.
    """
    if sys.platform != "linux" or "ray" in sys.modules:
        return
    if not any(os.environ.get(name) for name in ("RAY_ADDRESS", "RAY_RUNTIME_ENV_HOOK")):
        start_warm_python(PRELOADED)
