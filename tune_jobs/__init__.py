"""The search service: the only package that imports Ray."""

import sys
from collections.abc import Callable

from handclip_core.errors import InputError
from handclip_core.paths import refusal


def exit_code(command: Callable[[], int]) -> int:
    """What ``command`` returns; 2 for what the user can mend, which is told in one line, 130 if it was interrupted."""
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if (refused := refusal(error)) is None:
            raise
        print(f"error: {refused}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
