"""Looks at the test people by hand: entered in the ledger beside the sweeps, where those of the finals are."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from handclip_core.evaluation.ledger import LOOKED, OPENED, Ledger, hash_of_test
from handclip_core.paths import SWEEP_SETTINGS
from handclip_core.runs.context import Bench, Split
from handclip_core.runs.run_folder import CONFIG

LEDGER = "test_looks.jsonl"


def ledger_of(run: Path) -> Ledger:
    """The ledger of the storage in which a run lies, in a sweep's folder or by itself."""
    run = run.resolve()
    sweeps = [parent for parent in run.parents if (parent / SWEEP_SETTINGS).is_file()]
    # The finals of a sweep are a sweep in its folder.
    return Ledger((sweeps[-1] if sweeps else run).parent / LEDGER)


@contextmanager
def entered(runs: Sequence[Path], bench: Bench, split: Split, *, by: str) -> Iterator[dict[str, Any]]:
    """Enter a look of ``runs`` at the test people: a line before the block, one after it with what the block fills in.

    ``by`` says who looks. Nothing is entered for validation people. Raises InputError where the ledger's chain is
    broken.
    """
    figures: dict[str, Any] = {}
    if split == "val":
        yield figures
        return
    ledger, data = ledger_of(runs[0]), hash_of_test(bench.prepared)
    configs = "".join((run / CONFIG).read_text(encoding="utf-8") for run in runs)
    about = {
        "sweep": runs[0].resolve().parent.name,
        "chosen": f"{by} {', '.join(str(run) for run in runs)}",
        "config": hashlib.sha256(configs.encode()).hexdigest(),
        "data": data,
        "manifest": bench.prepared.protocol.manifest_hash,
        "code": code_version(),
    }
    opened = ledger.append(OPENED, about)
    yield figures
    ledger.append(LOOKED, {**about, "opened": opened.hash, "figures": figures})


def looks_text(run: Path, bench: Bench, split: Split) -> str:
    """How many looks there were at the test people; empty for validation people."""
    if split == "val":
        return ""
    ledger = ledger_of(run)
    return f"look {len(ledger.looks(hash_of_test(bench.prepared)))} at these test people, entered in {ledger.path}"


def code_version() -> str:
    """The package's version, and what git says of the sources where they are in a repository."""
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
