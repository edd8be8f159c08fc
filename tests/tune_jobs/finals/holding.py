"""Finals that are held, and what they leave."""

import csv
from pathlib import Path

import torch

from chaos.processes import wait_until
from handclip_core.evaluation.access_log import AccessLog
from handclip_core.types import Aspect
from tests.conftest import TINY_DATA
from tests.limits import LIMIT_S
from tune_jobs.finals.past_sweep import read_sweep
from tune_jobs.finals.run import hold_finals
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trials import Trials, folded

CPU = torch.device("cpu")
DORSAL = TINY_DATA.model_copy(update={"aspects": (Aspect.DORSAL_RIGHT, Aspect.DORSAL_LEFT)})


def records_of(finals: Path) -> Trials:
    return folded(read_journal(finals / FILE))


def finalists(finals: Path) -> dict[str, dict[str, str]]:
    with (finals / "finalists.csv").open() as file:
        return {row["finalist"]: row for row in csv.DictReader(file)}


def hold(storage: Path, *, with_test: bool = False, seeds: int = 2) -> int:
    return hold_finals(read_sweep(storage / "tiny"), top=2, seeds=seeds, with_test=with_test)


def access_log_of(storage: Path) -> AccessLog:
    return AccessLog(storage / "test_looks.jsonl")


def wait_for_text(path: Path, text: str, *, times: int = 1) -> None:
    """Wait until a file has a text so often."""

    def found() -> bool:
        return path.exists() and path.read_text().count(text) >= times

    wait_until(found, what=f"{text} in {path}", limit_s=LIMIT_S, every_s=0.02)
