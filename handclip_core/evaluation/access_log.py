"""The log of accesses to test identities: lines of JSON that are only ever added, each holding the hash of the one
before.

An access is two lines: ``opened`` before test identities are scored and ``looked`` with the figures after. So an access
that was cut short counts, too. Changing, removing or reordering lines breaks the chain; cutting lines off its end shows
if a hash was kept elsewhere (see `require`). It guards against mistakes and second thoughts, not against writing the
whole file anew.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from handclip_core.data.manifest import Prepared
from handclip_core.errors import InputError
from handclip_core.paths import STATE_VARIABLE, state_root

OPENED, SCORED = "opened", "looked"
COPY_OF = "copy_of"
"""In a shared log, the hash of the line that a line is a copy of."""
START = "0" * 64
"""What the first line holds in place of a hash."""
MEND = "restore the access log from a copy; accesses that are not in it cannot be counted"


@dataclass(frozen=True)
class Entry:
    """A line: its ``number`` from 1, its time (UTC), what happened, its values, and the hash over all of them."""

    number: int
    time: str
    event: str
    values: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True)
class AccessLog:
    """The access log in the file ``path``, which need not exist yet.

    ``shared`` is that of the data set: it gets every line of every place, and tells this one of the others' accesses.
    """

    path: Path
    shared: Path | None = None

    def entries(self) -> list[Entry]:
        """Every line, checked; raises InputError, naming the line, if the chain is broken."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}: not readable as an access log ({error})") from None
        found: list[Entry] = []
        for number, line in enumerate(lines, start=1):
            found.append(_checked(line, number, found[-1].hash if found else START, source=self.path))
        return found

    def append(self, event: str, values: Mapping[str, Any]) -> Entry:
        """Add a line, under a lock that other writers wait for.

        Raises InputError if the chain is broken, or the shared log cannot be written.
        """
        entry = self._append(event, values)
        if self.shared is not None:
            self._share(str(values.get("data")))
        return entry

    def _append(self, event: str, values: Mapping[str, Any]) -> Entry:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            entries = self.entries()
            body: dict[str, Any] = {
                "number": len(entries) + 1,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "event": event,
                "values": dict(values),
                "previous": entries[-1].hash if entries else START,
            }
            entry = Entry(**body, hash=_hash(body))
            with self.path.open("ab") as file:
                file.write(f"{_text(body | {'hash': entry.hash})}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        return entry

    def accesses(self, data: str) -> list[Entry]:
        """The accesses so far to the test identities whose hash is ``data``, those cut short among them.

        Those of this place, and those that the shared log knows from others, by time.
        """
        own = [entry for entry in self.entries() if entry.event == OPENED and entry.values.get("data") == data]
        known = {entry.hash for entry in own}
        others = [] if self.shared is None else AccessLog(self.shared).accesses(data)
        found = [*own, *(entry for entry in others if entry.values[COPY_OF] not in known)]
        return sorted(found, key=lambda entry: str(entry.values.get("at", entry.time)))

    def _share(self, data: str) -> None:
        """Copy lines about ``data`` that the shared log lacks, also those from before there was one."""
        assert self.shared is not None
        shared = AccessLog(self.shared)
        try:
            self.shared.parent.mkdir(parents=True, exist_ok=True)
            # Held over all lines: of two that share one place, the second must see what the first has copied.
            with FileLock(f"{self.shared}.copying.lock"):
                known = {entry.values[COPY_OF] for entry in shared.entries()}
                for entry in self.entries():
                    if entry.values.get("data") == data and entry.hash not in known:
                        place = {COPY_OF: entry.hash, "place": str(self.path.absolute()), "at": entry.time}
                        shared._append(entry.event, {**entry.values, **place})
        except OSError as error:
            raise InputError(
                f"{self.shared}: accesses to test identities cannot be logged ({error.strerror}); set {STATE_VARIABLE} "
                "to a folder that can be written"
            ) from None

    def require(self, hash_: str, *, source: Path) -> None:
        """Raise InputError if the access log has lost the line with ``hash_``, which ``source`` names."""
        if all(entry.hash != hash_ for entry in self.entries()):
            raise InputError(f"{self.path}: lacks a test access that {source} names; {MEND}")


def shared_log(data: str) -> Path:
    """The file of all accesses to the test identities whose hash is ``data``, wherever runs and sweeps lie."""
    return state_root() / "test_access" / f"{data[:32]}.jsonl"


def hash_of_test(prepared: Prepared) -> str:
    """SHA-256 over who and what the test images show, whatever their order, their folder and the gallery splits."""
    manifest = prepared.manifest
    tested = manifest[manifest["subset"] == "test"]
    columns: pd.DataFrame = tested[["hash", "identity", "aspect"]].astype(str)
    return hashlib.sha256("\n".join(sorted(columns.agg(" ".join, axis=1))).encode()).hexdigest()


def _checked(line: str, number: int, previous: str, *, source: Path) -> Entry:
    where = f"{source}, line {number}"
    try:
        values = json.loads(line)
        entry = Entry(**values)
    except (ValueError, TypeError):
        raise InputError(f"{where}: not a line of an access log; {MEND}") from None
    if _hash({name: value for name, value in values.items() if name != "hash"}) != entry.hash:
        raise InputError(f"{where}: was changed after it was written; {MEND}")
    if entry.previous != previous or entry.number != number:
        raise InputError(f"{where}: does not follow the line before; lines were removed or moved; {MEND}")
    return entry


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(body).encode()).hexdigest()


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
