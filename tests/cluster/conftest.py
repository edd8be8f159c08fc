"""One cluster of several nodes for all tests that need one, and the sweep in peace that comes before any fault."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tune_jobs.chaos.nodes import LocalCluster, LocalNode, local_cluster
from tune_jobs.chaos.processes import Process
from tune_jobs.chaos.remains import remains
from tune_jobs.chaos.watching import Watched
from tune_jobs.settings import EarlyStopping, SweepSettings, dump_settings

LIMIT_S = 900.0


@dataclass(frozen=True)
class Peace:
    """A sweep that has ended, on two nodes that were there from its beginning and one that has joined."""

    sweep: Watched
    nodes: tuple[LocalNode, ...]
    left: tuple[str, ...]
    """What it still held of the cluster."""


@pytest.fixture(scope="session")
def nodes(cache_folder: Path) -> Iterator[LocalCluster]:
    """A head, and nodes of one processor with a cache each."""
    del cache_folder
    with local_cluster(nodes=2, own_caches=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def peace(
    nodes: LocalCluster, tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> Peace:
    """The sweep in peace; a node joins while it runs, which waits for that."""
    storage = tmp_path_factory.mktemp("runs")
    settings = SweepSettings(
        data=TINY_DATA,
        backbone=tiny_backbones["vit"],
        strategies=("full",),
        trials=5,
        budget=30,
        early_stopping=EarlyStopping(kind="none"),
        storage=storage,
    )
    (storage / "settings.yaml").write_text(dump_settings(settings))
    sweep = Watched.begin(storage / "settings.yaml", storage / "peace", nodes.environment)
    try:
        # Trials end sooner than workers start, so those that train wait for the others, and all for the new node.
        held = [hold_next(nodes, sweep, [])]
        held.append(hold_next(nodes, sweep, held))
        nodes.add_node()
        held.append(hold_next(nodes, sweep, held))
        for worker in held:
            worker.send(signal.SIGCONT)
        assert sweep.wait(limit_s=LIMIT_S) == 0, sweep.log.read_text()
    finally:
        sweep.kill_driver()
    at_work = [f"process {process.pid}" for node in nodes.nodes for process in node.training()]
    return Peace(sweep, tuple(nodes.nodes), (*remains(nodes.environment), *at_work))


def hold_next(nodes: LocalCluster, sweep: Watched, held: Sequence[Process]) -> Process:
    """Freeze the next process that trains."""
    known, found = {worker.pid for worker in held}, list[Process]()

    def any_trains() -> bool:
        found.extend(each for node in nodes.nodes for each in node.training() if each.pid not in known)
        return bool(found)

    sweep.wait_until(any_trains, what="one more worker that trains")
    found[0].send(signal.SIGSTOP)
    return found[0]
