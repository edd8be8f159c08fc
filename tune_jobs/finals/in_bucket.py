"""The finals of a sweep in a bucket: brought here once this driver holds their lease, and sent back at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handclip_core.runs.test_access import ACCESS_LOG
from tune_jobs.state.local_copy import download
from tune_jobs.storage.lease import SweepLease
from tune_jobs.storage.location import BucketLocation, StorageLocation, folder_of
from tune_jobs.storage.retry import with_retry
from tune_jobs.storage.sync import FolderSync


@contextmanager
def kept_in_bucket(finals: StorageLocation, lease: SweepLease) -> Iterator[None]:
    """Within the block this machine has the finals at ``finals``; however it ends, the bucket has all of them then.

    Nothing is sent if another driver has taken them over. Does nothing for a sweep in a folder. Raises InputError if
    the bucket stays away.
    """
    if not isinstance(finals, BucketLocation):
        yield
        return
    folder = download(finals)
    try:
        yield
    finally:
        if not lease.lost.is_set():
            with_retry(FolderSync(folder, finals).send, path=finals)
            sync_ledger(finals.parent)


def sync_ledger(sweep: StorageLocation) -> Path:
    """The access log of test access in the storage of ``sweep``, as a file of this machine.

    If the storage is a bucket, file and object are the same afterwards: the file counts if it goes on from the object,
    as after a command that was killed, otherwise the object does. Raises InputError if the bucket stays away.
    """
    access_log = folder_of(sweep).parent / ACCESS_LOG
    if isinstance(sweep, BucketLocation):
        kept = sweep.parent / ACCESS_LOG
        known = with_retry(kept.read, path=kept) or b""
        own = access_log.read_bytes() if access_log.exists() else b""
        if not own.startswith(known):
            access_log.parent.mkdir(parents=True, exist_ok=True)
            access_log.write_bytes(known)
        elif own != known:
            with_retry(lambda: kept.send(access_log), path=kept)
    return access_log
