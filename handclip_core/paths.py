"""Paths that users name, looked at before the work begins; and where this package keeps what is its own."""

import errno
import os
import re
import stat
import tempfile
from pathlib import Path

from handclip_core.errors import InputError

SWEEP_SETTINGS = "sweep.yaml"
"""The complete settings in a sweep's folder, which mark it as one."""
CACHE_VARIABLE, STATE_VARIABLE = "HANDCLIP_CACHE", "HANDCLIP_STATE"
LONGEST_NAME, LONGEST_PATH = 255, 4000
"""Bytes of one part of a path on all common file systems, and of a whole one."""
SHOWN = 120
FAULTS = {
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "lies below a file, which is no folder",
    errno.EEXIST: "is a file where a folder is wanted",
    errno.EISDIR: "is a folder, not a file",
    errno.ENAMETOOLONG: "the name is too long for a file system",
    errno.EACCES: "no permission for this user",
    errno.EPERM: "no permission for this user",
    errno.ELOOP: "is a link that leads round in a loop",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the user's share of the disk is full",
    errno.EROFS: "the disk is read-only",
}
"""What the system says, in the words of messages."""
FULL = (errno.ENOSPC, errno.EDQUOT)


def fault_of(error: OSError) -> str:
    """Why a path cannot be used, in plain words."""
    return FAULTS.get(error.errno or 0) or (error.strerror or str(error) or type(error).__name__)


def refusal(error: OSError) -> InputError | None:
    """What the system refused a command amid its work, as one line; None for what can only be a mistake of ours."""
    if error.filename is None and error.errno in FULL:
        return InputError(f"output cannot be written: {fault_of(error)}")
    if error.errno not in FAULTS or error.errno == errno.ENOENT or error.filename is None:
        return None
    return InputError(f"{shown_path(os.fsdecode(error.filename))}: {fault_of(error)}")


def shown_path(path: Path | str) -> str:
    """``path`` on one line of bounded length."""
    text = printable(str(path))
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}...{text[-SHOWN // 2 :]}"


def printable(text: str) -> str:
    """``text`` on one line: what does not print is written as an escape."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def user_path(given: Path | str) -> Path:
    """``given`` with ``~`` and ``$VARIABLES`` put in; raises InputError if that cannot be, or no path may be so named.

    A name that a file system may not hold is refused here, so that nothing is done before.
    """
    text = str(given)
    if not text.strip():
        raise InputError("an empty text is no path; name a file or folder, '.' for this one")
    if any(ord(letter) < 32 for letter in text):
        raise InputError(f"{shown_path(text)}: holds a control character (a NUL, tab or line end)")
    try:
        if ("$" in text or text[0] == "~") and not os.path.lexists(text):
            text = _expanded(text)
        longest = max((len(part.encode()) for part in Path(text).parts), default=0)
    except UnicodeEncodeError:
        raise InputError(f"{shown_path(text)}: is no text in UTF-8") from None
    if longest > LONGEST_NAME or len(text) > LONGEST_PATH:
        raise InputError(f"{shown_path(text)}: {FAULTS[errno.ENAMETOOLONG]}")
    try:
        os.stat(text)  # noqa: PTH116 - a Path raises another error for a loop in Python 3.11 and 3.12
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{shown_path(text)}: {FAULTS[errno.ELOOP]}") from None
    return Path(text)


def _expanded(text: str) -> str:
    found = os.path.expandvars(text)
    found = os.path.expanduser(found)  # noqa: PTH111 - Path's own raises a RuntimeError for an unknown user
    if found[0] == "~" or re.search(r"\$(\w|\{)", found):
        raise InputError(f"{shown_path(text)}: there is no such user or variable; write the path out")
    return found


def read_file(path: Path, *, max_bytes: int | None = None, missing: str = "no such file") -> bytes:
    """The bytes of a file that a user names; raises InputError if it cannot be read or is larger than ``max_bytes``.

    ``missing`` is what is said if it is not there.
    """
    path, size = user_path(path), plain_file(path, missing=missing)
    if max_bytes is not None and size > max_bytes:
        raise InputError(f"{shown_path(path)}: has {size:,} bytes, more than the {max_bytes:,} read")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{shown_path(path)}: cannot be read: {fault_of(error)}") from None


def plain_file(path: Path, *, missing: str = "no such file") -> int:
    """The bytes of a file that is to be read; raises InputError for all that is none: a pipe would be waited for."""
    path = user_path(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError(f"{shown_path(path)}: {missing}") from None
    except OSError as error:
        raise InputError(f"{shown_path(path)}: cannot be read: {fault_of(error)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{shown_path(path)}: {FAULTS[errno.EISDIR]}")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{shown_path(path)}: is no plain file (a device, pipe or socket)")
    return found.st_size


def input_folder(given: Path | str, *, mend: str) -> Path:
    """The folder that a user names to be read; raises InputError, which ends in ``mend``, unless it holds something."""
    path = user_path(given)
    try:
        if next(path.iterdir(), None) is None:
            raise InputError(f"{shown_path(path)}: empty folder; {mend}")
    except FileNotFoundError:
        raise InputError(f"{shown_path(path)}: no such folder; {mend}") from None
    except NotADirectoryError:
        fault = "is a file, not a folder" if path.exists() else FAULTS[errno.ENOTDIR]
        raise InputError(f"{shown_path(path)}: {fault}; {mend}") from None
    except OSError as error:
        raise InputError(f"{shown_path(path)}: cannot be read: {fault_of(error)}; {mend}") from None
    return path


def output_path(given: Path | str, *, option: str) -> Path:
    """The path that a user names for something new; raises InputError, which names ``option``, if it can be none."""
    try:
        return user_path(given)
    except InputError as error:
        raise InputError(f"{option}: {error}; choose another folder") from None


def output_folder(given: Path | str, *, option: str) -> Path:
    """The folder that a user names to be written to; raises InputError, which names ``option``, if it cannot be.

    Tried by making a folder in it, or in the nearest one above it that is there, which is removed at once.
    """
    path = output_path(given, option=option)
    nearest = path.absolute()
    try:
        while not nearest.exists():
            if nearest.is_symlink():
                raise InputError(f"{option}: {shown_path(nearest)}: is a link to nothing; choose another folder")
            nearest = nearest.parent
        if not nearest.is_dir():
            fault = "is a file, not a folder" if nearest == path.absolute() else FAULTS[errno.ENOTDIR]
            raise InputError(f"{option}: {shown_path(path)}: {fault}; choose another folder")
        os.rmdir(tempfile.mkdtemp(prefix=".handclip-", dir=nearest))  # noqa: PTH106 - a path of tempfile's
    except OSError as error:
        fault = f"nothing can be written in {shown_path(nearest)}" if error.errno == errno.ENOENT else fault_of(error)
        raise InputError(f"{option}: {shown_path(path)}: {fault}; choose another folder") from None
    return path


def cache_root() -> Path:
    """The cache folder: ``$HANDCLIP_CACHE``, else ``handclip`` in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "handclip"


def state_root() -> Path:
    """The folder of what must not get lost: ``$HANDCLIP_STATE``, else ``handclip`` in the user's state folder."""
    chosen = os.environ.get(STATE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "handclip"
