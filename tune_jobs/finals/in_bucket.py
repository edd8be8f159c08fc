"""The finals of a sweep in a bucket: held in this machine's working copy, and in the bucket when they end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handclip_core.errors import InputError
from handclip_core.runs.test_access import LEDGER
from tune_jobs.execution import cluster
from tune_jobs.finals.build import FOLDER
from tune_jobs.lifecycle.folders import is_sweep
from tune_jobs.state.local_copy import to_read
from tune_jobs.storage.location import Bucket, Place, exists
from tune_jobs.storage.retry import patiently
from tune_jobs.storage.sync import Mirror


@contextmanager
def brought_here(where: Place) -> Iterator[Path]:
    """The folder of the sweep at ``where``; of one in a bucket, the working copy with its finals, and the ledger.

    However the block ends, both are in the bucket then. Raises InputError where there is no such sweep, the bucket
    cannot be used, or the cluster has several machines, which do not share a working copy.
    """
    if isinstance(where, Path):
        yield where
        return
    where.parent.check()
    if not is_sweep(where):
        raise InputError(f"{where}: no sweep of this name")
    cluster.connect()
    if len(cluster.nodes()) > 1:
        raise InputError(f"{where}: finals of a sweep in a bucket run on one machine; unset RAY_ADDRESS")
    folder = to_read(where)
    if patiently(lambda: exists(where / FOLDER), path=where):
        patiently(lambda: (where / FOLDER).fetch(folder / FOLDER), path=where)
    ledger, kept = folder.parent / LEDGER, where.parent / LEDGER
    _bring_ledger(kept, ledger)
    mirror = Mirror(folder, where, wanted=lambda path: path.startswith(f"{FOLDER}/") and not path.endswith(".lock"))
    try:
        yield folder
    finally:
        patiently(mirror.send, path=where)
        if ledger.exists():
            patiently(lambda: kept.send(ledger), path=where)


def _bring_ledger(kept: Bucket, ledger: Path) -> None:
    """Write the bucket's ledger here, unless the one here goes on from it, as after a command that was killed."""
    known = patiently(kept.read, path=kept)
    if known is not None and not (ledger.exists() and ledger.read_bytes().startswith(known)):
        ledger.write_bytes(known)
