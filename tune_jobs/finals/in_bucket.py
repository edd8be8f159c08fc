"""The finals of a sweep in a bucket: brought here once this driver holds their lease, and sent back at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handclip_core.runs.test_access import LEDGER
from tune_jobs.state.local_copy import take_down
from tune_jobs.storage.lease import SweepLock
from tune_jobs.storage.location import Bucket, Place, folder_of
from tune_jobs.storage.retry import patiently
from tune_jobs.storage.sync import Mirror


@contextmanager
def kept_in_bucket(finals: Place, lease: SweepLock) -> Iterator[None]:
    """Within the block this machine has the finals at ``finals``; however it ends, the bucket has all of them then.

    Nothing is sent if another driver has taken them over. Does nothing for a sweep in a folder. Raises InputError if
    the bucket stays away.
    """
    if not isinstance(finals, Bucket):
        yield
        return
    folder = take_down(finals)
    try:
        yield
    finally:
        if not lease.lost.is_set():
            patiently(Mirror(folder, finals).send, path=finals)
            sync_ledger(finals.parent)


def sync_ledger(sweep: Place) -> Path:
    """The ledger of test access in the storage of ``sweep``, as a file of this machine.

    If the storage is a bucket, file and object are the same afterwards: the file counts if it goes on from the object,
    as after a command that was killed, otherwise the object does. Raises InputError if the bucket stays away.
    """
    ledger = folder_of(sweep).parent / LEDGER
    if isinstance(sweep, Bucket):
        kept = sweep.parent / LEDGER
        known = patiently(kept.read, path=kept) or b""
        own = ledger.read_bytes() if ledger.exists() else b""
        if not own.startswith(known):
            ledger.parent.mkdir(parents=True, exist_ok=True)
            ledger.write_bytes(known)
        elif own != known:
            patiently(lambda: kept.send(ledger), path=kept)
    return ledger
