"""The journal of a sweep: one JSON line an event, only ever added to. It is what the sweep is resumed from.

Each line ends with a checksum over itself and the checksum of the line before, so a line that was changed, moved or
removed is noticed. A small file beside it says how many lines there are at least, so lines that were cut off at the end
are noticed, too. Half a line at the end, which a killed driver leaves, has never happened; nothing else is healed.
"""

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from handclip_core.config import describe
from handclip_core.errors import InputError
from tune_jobs.state.events import EVENT, FORMAT, Begun, Created, Event, TrialEvent
from tune_jobs.storage.retry import with_retry
from tune_jobs.storage.segments import FILE as FILE
from tune_jobs.storage.segments import TIP as TIP
from tune_jobs.storage.segments import JournalSegments

_CHECK = re.compile(rb',"check":"([0-9a-f]{8})"}$')
_TIP = re.compile(rb"(\d{12}) ([0-9a-f]{8})\n")
_FORMAT = re.compile(rb'"event":"created","format":(\d+)')


class Tip(NamedTuple):
    """The end of a journal: the number of its lines, and the checksum of the last one."""

    lines: int = 0
    check: int = 0

    def to_bytes(self) -> bytes:
        """Always as many bytes, so that one replaces another."""
        return b"%012d %08x\n" % self


class Journal(AbstractContextManager["Journal"]):
    """An open journal. A line is in the storage when ``append`` returns, so what follows may rely on it."""

    def __init__(self, path: Path, segments: JournalSegments | None = None) -> None:
        """Open ``path`` for adding, creating it if need be; half a line that a killed driver left is cut off.

        If the sweep is in a bucket, ``segments`` is the journal that counts, and the file is a copy of it. Raises
        InputError if the journal is damaged.
        """
        self._path, self._segments = path, segments
        self._tip, self._size = Tip(), 0
        for _, self._tip, self._size in _verified(path):
            pass
        self._file: FileIO | None = None

    def append(self, event: Event) -> None:
        """Add one line; raises InputError if the storage stays away or full."""
        check, line = _sealed(event.model_dump_json().encode(), self._tip.check)
        tip = Tip(self._tip.lines + 1, check)
        with_retry(partial(self._write, line, tip), path=self._path)
        if self._segments is not None:
            with_retry(partial(self._segments.add, line), path=self._segments.location)
        self._size += len(line)
        self._tip = tip

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: bytes, tip: Tip) -> None:
        if self._file is None:
            # Half a line from an earlier try, or from a driver that was killed, must not stay before this one.
            self._file = FileIO(self._path, "a")
            self._file.truncate(self._size)
        try:
            if self._file.write(line) != len(line):
                raise OSError("no space is left for a whole line")
            os.fsync(self._file.fileno())
            write_tip(self._path, tip)
        except OSError:
            self.close()
            raise


def write_journal(path: Path, lines: bytes) -> None:
    """Put a whole journal at ``path`` in place of any other, with the note of its end."""
    path.with_name(TIP).unlink(missing_ok=True)
    path.write_bytes(lines)
    whole = lines.split(b"\n")[:-1]
    seal = _CHECK.search(whole[-1]) if whole else None
    if seal is not None:  # a line without one is refused when it is read
        write_tip(path, Tip(len(whole), int(seal[1], 16)))


def write_tip(journal: Path, tip: Tip) -> None:
    """Note the end of ``journal``, in place. The first note is on the disk at once; later an older one is no damage."""
    with FileIO(os.open(journal.with_name(TIP), os.O_RDWR | os.O_CREAT, 0o666), "r+") as file:
        is_first = os.fstat(file.fileno()).st_size == 0
        os.pwrite(file.fileno(), tip.to_bytes(), 0)
        if is_first:
            os.fsync(file.fileno())


def joined(parts: Sequence[bytes]) -> bytes:
    """The journal of drivers that each wrote a part, one after another.

    A driver that was taken for dead may have added lines to its part after the next one had begun its own. That one did
    not see them, so they have never happened.
    """
    whole = b""
    for part in parts:
        first = part.split(b"\n", 1)[0]
        kept = whole.splitlines(keepends=True)
        before = next((n for n in range(len(kept), 0, -1) if _follows(first, kept[n - 1])), None)
        whole = (whole if before is None else b"".join(kept[:before])) + part
    return whole


def _follows(line: bytes, before: bytes) -> bool:
    seals = _CHECK.search(line), _CHECK.search(before.rstrip(b"\n"))
    if seals[0] is None or seals[1] is None:
        return False
    return zlib.crc32(line[: seals[0].start()] + b"}", int(seals[1][1], 16)) == int(seals[0][1], 16)


def read_journal(path: Path) -> list[Event]:
    """The events of a journal; none if there is no file.

    Raises InputError if a line was changed, moved, removed or cut off, if it has another format, or if it is about a
    trial whose beginning is missing.
    """
    begun, events = set[int](), list[Event]()
    for body, tip, _ in _verified(path):
        event = _event(body, path, tip.lines)
        if isinstance(event, Begun):
            begun.add(event.trial)
        elif isinstance(event, TrialEvent) and event.trial not in begun:
            raise _damaged(path, f"line {tip.lines} is about trial {event.trial}, whose beginning is missing")
        events.append(event)
    return events


def _verified(path: Path) -> Iterator[tuple[bytes, Tip, int]]:
    """Each event of a journal, the journal's end with it and its size by then; raises InputError if it is damaged."""
    noted, tip, size = _noted(path), Tip(), 0  # before the lines, to which a driver may add meanwhile
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else ():
        body, tip = _opened(line, tip, path)
        if tip.lines == noted.lines and tip.check != noted.check:
            raise _damaged(path, f"line {tip.lines} is not the one that {TIP} tells of")
        size += len(line) + 1
        yield body, tip, size
    # A driver that died after its first line has left no note; one that has just begun may have written it meanwhile.
    if noted.lines == 0 and tip.lines > 1 and _noted(path).lines == 0:
        raise _damaged(path, f"{TIP} beside it is missing, which tells whether line {tip.lines} is the last one")
    if tip.lines < noted.lines:
        raise _damaged(path, f"line {tip.lines + 1} and what follows is missing, of {noted.lines} lines at least")


def _sealed(body: bytes, before: int) -> tuple[int, bytes]:
    """The checksum of an event after the checksum ``before``, and its line."""
    check = zlib.crc32(body, before)
    return check, body[:-1] + b',"check":"%08x"}\n' % check


def _opened(line: bytes, tip: Tip, path: Path) -> tuple[bytes, Tip]:
    """The event of the line after ``tip``, and the end of the journal with it."""
    number, seal = tip.lines + 1, _CHECK.search(line)
    if seal is None:
        older = number == 1 and b'"event":"opened"' in line  # which has been the second one since format 2
        raise _other_format(path, 1) if older else _damaged(path, f"line {number} has no checksum")
    body = line[: seal.start()] + b"}"
    if zlib.crc32(body, tip.check) != int(seal[1], 16):
        raise _damaged(path, f"line {number} was changed, or one before it is missing")
    return body, Tip(number, int(seal[1], 16))


def _event(body: bytes, path: Path, number: int) -> Event:
    found = _FORMAT.search(body) if number == 1 else None
    if found is not None and int(found[1]) != FORMAT:
        raise _other_format(path, int(found[1]))
    try:
        event = EVENT.validate_json(body)
    except ValidationError as error:
        raise _damaged(path, f"line {number} is not readable ({describe(error)})") from None
    if isinstance(event, Created) != (number == 1):
        raise _damaged(path, f"line {number} is not in its place")
    return event


def _noted(path: Path) -> Tip:
    """What the file beside a journal says of its end; nothing if it is missing or was never filled."""
    file = path.with_name(TIP)
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return Tip()
    found = _TIP.fullmatch(text)
    if found is not None:
        return Tip(int(found[1]), int(found[2], 16))
    if text.strip(b"\0"):
        raise _damaged(path, f"{TIP} beside it is not readable")
    return Tip()


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: {what}, so this sweep cannot be taken up; put back copies of {FILE} and {TIP}, or begin another sweep"
    )


def _other_format(path: Path, number: int) -> InputError:
    return InputError(
        f"{path}: has format {number}, this version of handclip-search reads format {FORMAT}; "
        "go on with the version that began the sweep, or begin another sweep"
    )
