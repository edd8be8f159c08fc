"""Sweeps on several nodes of one machine, each with processes, an address and caches of its own."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.checks import unsound
from chaos.faults import Fault
from chaos.nodes import LocalCluster, LocalNode, local_cluster
from chaos.processes import Process
from chaos.remains import remains
from chaos.trying import disturb
from chaos.watching import Watched, running
from handclip_core.models.backbone import BackboneSettings
from handclip_core.warm_python import command_of
from tests.conftest import TINY_DATA
from tests.limits import LIMIT_S
from tests.warm_workers import LAUNCHER, SERVER, for_drivers
from tune_jobs.config.search import SamplerKind, Search
from tune_jobs.config.settings import EarlyStopping, Resources, SweepSettings, dump_settings
from tune_jobs.state.events import Moved, Retried, Started
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trials import folded

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ESSENTIAL = (Fault.KILL_NODE, Fault.KILL_DRIVER)
ALL_FAULTS = (
    Fault.KILL_WORKER, Fault.FREEZE_WORKER, Fault.FREEZE_FOREVER, Fault.KILL_NODE, Fault.DRAIN_NODE, Fault.KILL_DRIVER,
)  # fmt: skip


@dataclass(frozen=True)
class Peace:
    """A sweep that has ended, on two nodes that were there from its beginning and one that has joined."""

    settings: SweepSettings
    sweep: Watched
    nodes: tuple[LocalNode, ...]
    left: tuple[str, ...]
    """What it still held of the cluster."""


@pytest.fixture(scope="module")
def nodes(cache_folder: Path) -> Iterator[LocalCluster]:
    """A head, and nodes of one processor with a cache each."""
    del cache_folder
    variables = for_drivers(command_of("ADDRESS").replace("ADDRESS", f"${SERVER}"))  # for the shell of each node
    with local_cluster(nodes=2, own_caches=True, variables=variables, launcher=LAUNCHER) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def peace(
    nodes: LocalCluster, tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> Peace:
    """The sweep in peace; a node joins while it runs, which waits for that."""
    storage = tmp_path_factory.mktemp("runs")
    settings = SweepSettings(
        data=TINY_DATA,
        backbone=tiny_backbones["vit"],
        strategies=("full",),
        trials=4,
        budget=40,
        # What is drawn must not depend on the order in which trials end.
        search=Search(sampler=SamplerKind.RANDOM),
        early_stopping=EarlyStopping(kind="none"),
        # A machine that is slow now and then must not use them up.
        retries=9,
        stall_minutes=0.4,
        checkpoint_every_s=0.0,
        storage=storage,
    )
    (storage / "settings.yaml").write_text(dump_settings(settings.model_copy(update={"stall_minutes": 60})))
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
    return Peace(settings, sweep, tuple(nodes.nodes), (*remains(nodes.environment), *at_work))


def hold_next(nodes: LocalCluster, sweep: Watched, held: Sequence[Process]) -> Process:
    """Freeze the next process that trains."""
    known, found = {worker.pid for worker in held}, list[Process]()

    def any_trains() -> bool:
        found.extend(each for node in nodes.nodes for each in node.training() if each.pid not in known)
        return bool(found)

    sweep.wait_until(any_trains, what="one more worker that trains")
    found[0].send(signal.SIGSTOP)
    return found[0]


def test_trials_run_on_all_nodes_and_on_one_that_joins_and_the_sweep_is_whole(peace: Peace) -> None:
    events = peace.sweep.events()
    at_a_time = [len(running(folded(events[:length]))) for length in range(1, len(events) + 1)]
    assert at_a_time.index(2) < at_a_time.index(3)
    assert max(at_a_time) == 3
    assert unsound(peace.sweep.folder) == []
    assert (peace.sweep.folder / "best" / "metrics.json").exists()


def test_each_node_has_built_its_pixel_cache_once_and_those_of_the_start_before_the_first_trial(
    peace: Peace, nodes: LocalCluster
) -> None:
    first = next(event.at for event in peace.sweep.events() if isinstance(event, Started))
    times = {node.name: written(nodes, node) for node in peace.nodes}
    assert max(times["n1"], times["n2"]) < first
    assert times["n3"] > first


def written(nodes: LocalCluster, node: LocalNode) -> float:
    """When a node's only pixel cache was built; one that is built again appears under another time."""
    (file,) = nodes.cache_of(node).glob("pixels-*/index.json")
    return latest(file.parent)


def latest(folder: Path) -> float:
    return max(folder.stat().st_ctime, *(path.stat().st_mtime for path in folder.iterdir()))


def test_nothing_is_left_in_the_cluster_when_a_sweep_has_ended(peace: Peace) -> None:
    assert peace.sweep.over()
    assert peace.left == ()


@pytest.mark.parametrize("faults", [ESSENTIAL, pytest.param(ALL_FAULTS, marks=pytest.mark.faults)], ids=len)
def test_nothing_is_lost_or_counted_twice_and_scores_stay_whatever_is_killed(
    peace: Peace, nodes: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: tuple[Fault, ...]
) -> None:
    monkeypatch.setattr("chaos.faults.FROZEN_S", 4.0)
    one_at_a_time = peace.settings.model_copy(update={"resources": Resources(concurrent=1), "storage": tmp_path})
    verdict = disturb(
        one_at_a_time,
        faults,
        calm=peace.sweep,
        same_scores=True,
        folder=tmp_path,
        cluster=nodes,
        environment=nodes.environment,
    )
    assert tuple(told.fault for told in verdict.told) == faults
    assert verdict.wrong == ()
    events = read_journal(tmp_path / "disturbed" / FILE)
    drained = [trial for told in verdict.told if told.fault is Fault.DRAIN_NODE for trial in told.hit]
    assert [event.trial for event in events if isinstance(event, Moved)] == drained
    stalled = any(isinstance(event, Retried) and "counts as lost" in event.reason for event in events)
    assert stalled == (Fault.FREEZE_FOREVER in faults)
    assert [node.name for node in nodes.nodes if node.training()] == []
