"""A journal in a bucket, where nothing can be added to: objects of some hundred lines, the last one written anew."""

from handclip_core.errors import InputError
from tune_jobs.storage.location import BucketLocation, files_below
from tune_jobs.storage.retry import with_retry

FILE, TIP, FOLDER = "journal.jsonl", "journal.tip", "journal"
"""The journal as one file, the note of its end beside it, and the folder of its parts in a bucket."""
SEGMENT_BYTES = 2**18
"""Size at which a segment is full."""


class JournalSegments:
    """The journal of a sweep in a bucket. A line is there when ``add`` returns.

    Every driver begins a segment of its own, so that one that was taken for dead cannot overwrite a line of another's.
    """

    def __init__(self, sweep: BucketLocation) -> None:
        """The journal of the sweep at ``sweep``."""
        self.location = sweep / FOLDER
        self._number: int | None = None
        self._held = b""

    def add(self, lines: bytes) -> None:
        """Add whole lines; raises OSError if the bucket does not answer, and may then be called again."""
        if self._number is None:
            self._number = len(files_below(self.location))
        held = self._held + lines
        (self.location / _name(self._number)).write(held)
        # Only now, so that a call that failed can be repeated.
        self._held = held
        if len(held) >= SEGMENT_BYTES:
            self._number, self._held = self._number + 1, b""


def read_segments(sweep: BucketLocation) -> list[bytes]:
    """The parts of the journal of the sweep at ``sweep``; raises InputError if one is missing, or the bucket is."""
    place = sweep / FOLDER
    names = with_retry(lambda: sorted(files_below(place)), path=place)
    if names != [_name(number) for number in range(len(names))]:
        raise InputError(f"{place}: its parts are not numbered from 0 on ({', '.join(names)}); put them back")
    return [with_retry((place / name).read, path=place) or b"" for name in names]


def _name(number: int) -> str:
    return f"{number:06d}.jsonl"
