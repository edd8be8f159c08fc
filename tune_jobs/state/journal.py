"""The journal of a sweep: one JSON line an event, only ever added to. It is what the sweep is resumed from."""

import os
from functools import partial
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from handclip_core.config import describe
from handclip_core.errors import InputError
from tune_jobs.state.events import EVENT, Alive, Begun, Closed, Event, Opened
from tune_jobs.storage.retry import patiently
from tune_jobs.storage.segments import Segments

FILE = "journal.jsonl"


class Journal:
    """An open journal. A line is in the storage when ``append`` returns, so what follows may rely on it."""

    def __init__(self, path: Path, segments: Segments | None = None) -> None:
        """Open ``path`` for adding, creating it if need be; half a line that a killed driver left is cut off.

        Where the sweep is in a bucket, ``segments`` is the journal that counts, and the file is a copy of it.
        """
        self._path, self._segments = path, segments
        text = path.read_bytes() if path.exists() else b""
        self._size = text.rfind(b"\n") + 1
        self._file: FileIO | None = None

    def append(self, event: Event) -> None:
        """Add one line; raises InputError where the storage stays away or full."""
        line = event.model_dump_json().encode() + b"\n"
        patiently(lambda: self._write(line), path=self._path)
        if self._segments is not None:
            patiently(partial(self._segments.add, line), path=self._segments.place)
        self._size += len(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        if self._file is None:
            # Half a line from an earlier try, or from a driver that was killed, must not stay before this one.
            self._file = FileIO(self._path, "a")
            self._file.truncate(self._size)
        try:
            if self._file.write(line) != len(line):
                raise OSError("no space is left for a whole line")
            os.fsync(self._file.fileno())
        except OSError:
            self.close()
            raise


def read_journal(path: Path) -> list[Event]:
    """The events of a journal; none where there is no file.

    Half a line at the end, which a killed driver leaves, has never happened. Raises InputError where any other line is
    unreadable, or is about a trial whose beginning is missing.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    events, begun = [], set[int]()
    for number, line in enumerate(lines, start=1):
        event = _event(line, path, number)
        if isinstance(event, Begun):
            begun.add(event.trial)
        elif not isinstance(event, Opened | Alive | Closed) and event.trial not in begun:
            raise _damaged(path, f"line {number} is about trial {event.trial}, whose beginning is missing")
        events.append(event)
    return events


def _event(line: bytes, path: Path, number: int) -> Event:
    try:
        return EVENT.validate_json(line)
    except ValidationError as error:
        raise _damaged(path, f"line {number} is not readable ({describe(error)})") from None


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: {what}, so this sweep cannot be resumed; "
        "put back a copy of the file, or begin another sweep with --warm-start, which reads the study alone"
    )
