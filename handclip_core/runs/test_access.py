"""Evaluations on test identities by hand: logged beside the sweeps, in the same file as those of the finals."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from handclip_core.evaluation.access_log import OPENED, SCORED, AccessLog, hash_of_test, shared_log
from handclip_core.paths import SWEEP_SETTINGS
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.loaded import settings_text
from handclip_core.tasks.base import Split

ACCESS_LOG = "test_looks.jsonl"


def access_log_of(run: Path, data: str) -> AccessLog:
    """The access log of the storage in which a run lies, in a sweep's folder or by itself.

    It shares the accesses to the test identities whose hash is ``data``.
    """
    run = run.resolve()
    sweeps = [parent for parent in run.parents if (parent / SWEEP_SETTINGS).is_file()]
    # The finals of a sweep are a sweep in its folder.
    return AccessLog((sweeps[-1] if sweeps else run).parent / ACCESS_LOG, shared_log(data))


@contextmanager
def logged_access(
    runs: Sequence[Path], context: ExperimentContext, split: Split, *, by: str
) -> Iterator[dict[str, Any]]:
    """Log an access of ``runs`` to the test identities: a line before the block, one after it with what the block fills
    in.

    ``by`` names the command. Nothing is logged for validation identities. Raises InputError if the access log's chain
    is broken.
    """
    figures: dict[str, Any] = {}
    if split == "val":
        yield figures
        return
    data = hash_of_test(context.prepared)
    access_log = access_log_of(runs[0], data)
    configs = "".join(map(settings_text, runs))
    about = {
        "sweep": runs[0].resolve().parent.name,
        "chosen": f"{by} {', '.join(str(run) for run in runs)}",
        "config": hashlib.sha256(configs.encode()).hexdigest(),
        "data": data,
        "manifest": context.prepared.protocol.manifest_hash,
        "code": code_version(),
    }
    opened = access_log.append(OPENED, about)
    yield figures
    access_log.append(SCORED, {**about, "opened": opened.hash, "figures": figures})


def access_text(run: Path, context: ExperimentContext, split: Split) -> str:
    """The number of accesses to the test identities so far, as text; empty for validation identities."""
    if split == "val":
        return ""
    data = hash_of_test(context.prepared)
    access_log = access_log_of(run, data)
    number = len(access_log.accesses(data))
    return f"access {number} to these test identities, logged in {access_log.path}"


def code_version() -> str:
    """The package's version, and what git says of the sources if they are in a repository."""
    try:
        number = version("handclip-search")
    except PackageNotFoundError:
        number = "not installed"
    git = shutil.which("git")
    if git is None:
        return number
    describe = [git, "describe", "--always", "--dirty", "--tags"]
    asked = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return f"{number} ({asked.stdout.strip()})" if asked.returncode == 0 else number
