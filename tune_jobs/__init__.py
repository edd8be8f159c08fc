"""The search service: the only package that imports Ray."""

import sys
from collections.abc import Callable

from handclip_core import signals
from handclip_core.errors import InputError
from handclip_core.paths import refusal


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
