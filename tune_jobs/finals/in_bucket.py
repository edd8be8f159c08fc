"""The finals of a sweep in a bucket: the ledger of test access comes here first, and all goes back at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from handclip_core.runs.test_access import LEDGER
from tune_jobs.finals.build import FOLDER
from tune_jobs.storage.location import Bucket, Place, folder_of
from tune_jobs.storage.retry import patiently
from tune_jobs.storage.sync import Mirror


@contextmanager
def kept_in_bucket(where: Place) -> Iterator[None]:
    """Within the block this machine has the ledger of the sweep at ``where``; however it ends, the bucket has all then.

    Does nothing for a sweep in a folder. Raises InputError if the bucket cannot be used.
    """
    if not isinstance(where, Bucket):
        yield
        return
    ledger, kept = folder_of(where).parent / LEDGER, where.parent / LEDGER
    known = patiently(kept.read, path=kept)
    # The one here may go on from the bucket's, as after a command that was killed.
    if known is not None and not (ledger.exists() and ledger.read_bytes().startswith(known)):
        ledger.parent.mkdir(parents=True, exist_ok=True)
        ledger.write_bytes(known)
    finals = where / FOLDER
    try:
        yield
    finally:
        if folder_of(finals).exists():
            patiently(Mirror(folder_of(finals), finals).send, path=where)
        if ledger.exists():
            patiently(lambda: kept.send(ledger), path=where)
