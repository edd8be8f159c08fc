"""What cannot be written now is tried again for a while."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from handclip_core.errors import InputError
from handclip_core.paths import fault_of
from tune_jobs.storage.location import StorageLocation

Value = TypeVar("Value")
RETRY_FOR_S = 120.0
"""Seconds that a storage may be away, or full, before the sweep ends."""
LONGEST_WAIT_S = 5.0
LASTING = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)
"""No storage comes back from these."""


class UnwritableError(InputError):
    """A place could not be written to, or read, for as long as such a thing is waited for."""


def with_retry(action: Callable[[], Value], *, path: StorageLocation, verb: str = "written") -> Value:
    """What ``action`` returns, tried again while the system refuses it.

    Raises UnwritableError, which says that ``path`` cannot be ``verb``, if that does not pass.
    """
    end, wait_s = time.monotonic() + RETRY_FOR_S, 0.1
    while True:
        try:
            return action()
        except OSError as error:
            if time.monotonic() >= end or error.errno in LASTING:
                reason = fault_of(error) if error.errno in LASTING else error.strerror or " ".join(str(error).split())
                raise UnwritableError(f"{path}: cannot be {verb} ({reason}); mend that") from None
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
