"""Faults: what each does to a running sweep, and what has to happen for it to count as over."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chaos.checks import lost
from chaos.isolation import can_isolate, fill_disk
from chaos.joined import JoinedCluster, JoinedWorker
from chaos.nodes import LocalCluster, LocalNode, LocalWorker
from chaos.processes import Process, read_process, wait_until
from chaos.watching import Watched, running
from handclip_core.errors import InputError
from tune_jobs.execution.monitor import POLL_EVERY_S, SHOWN
from tune_jobs.state.events import Event, Moved, Retried, Started, Trained, Validated
from tune_jobs.state.trials import folded

FROZEN_S = 10.0
AWAY_S = 30.0
NOTICE_S = 120
"""Seconds between a notice and the end of a machine, as on AWS."""
NOTICED_S = 3 * POLL_EVERY_S
"""Seconds within which a driver has seen that."""
COMES_BACK_S = 60.0
"""Seconds within which a node that was cut off has to learn that the cluster has given it up."""
DEATH_LIMIT_S = 120.0
"""Seconds within which a driver has to notice that the head of its cluster is gone."""


class Fault(StrEnum):
    """What can go wrong on purpose."""

    KILL_WORKER = "kill-worker"
    KILL_NODE = "kill-node"
    ADD_NODE = "add-node"
    KILL_DRIVER = "kill-driver"
    KILL_HEAD = "kill-head"
    DRAIN_NODE = "drain-node"
    FREEZE_WORKER = "freeze-worker"
    FREEZE_FOREVER = "freeze-worker-forever"
    STORAGE_AWAY = "storage-away"
    FILL_DISK = "fill-disk"
    CUT_NETWORK = "cut-network"


ANYWHERE = (
    Fault.KILL_DRIVER,
    Fault.STORAGE_AWAY,
    Fault.KILL_WORKER,
    Fault.FREEZE_WORKER,
    Fault.FREEZE_FOREVER,
    Fault.KILL_NODE,
)
"""Faults that can be tried on any cluster. All but the last touch the sweep's own processes and folder alone."""
ENDS_AN_ATTEMPT = (
    Fault.KILL_WORKER,
    Fault.KILL_NODE,
    Fault.DRAIN_NODE,
    Fault.FREEZE_FOREVER,
    Fault.KILL_DRIVER,
    Fault.KILL_HEAD,
    Fault.FILL_DISK,
    Fault.CUT_NETWORK,
)
"""Faults after which a trial is begun again from its saved state."""
ISOLATING = (Fault.FILL_DISK, Fault.CUT_NETWORK)
"""Faults for which each node needs a disk and a network of its own, which only root can make."""


@dataclass(frozen=True)
class Scene:
    """A sweep under way, and the cluster that it runs on."""

    sweep: Watched
    cluster: LocalCluster | JoinedCluster

    def worker(self) -> LocalWorker | JoinedWorker:
        """A worker in which a trial of the sweep trains just now; raises TimeoutError where there is none."""
        found: list[LocalWorker | JoinedWorker] = []

        def any_trains() -> bool:
            found.extend(self.cluster.training(self.sweep.process.pid))
            return bool(found)

        wait_until(any_trains, what="a worker that trains", limit_s=60.0, every_s=0.02)
        return found[0]


@dataclass(frozen=True)
class Told:
    """What a fault did."""

    fault: Fault
    what: str
    hit: tuple[int, ...]
    """The trials that were running."""
    lost: tuple[str, ...]
    """What the journal held before and holds no more."""
    units_again: int
    """Budget units that had a result and were trained a second time."""
    recovery_s: float
    """From the fault until each of those trials had another result."""


def cause(fault: Fault, scene: Scene) -> Told:
    """Wait until a trial is amid its training, let the fault happen, and wait until the sweep is past it.

    Raises RuntimeError where the sweep ends before, TimeoutError where it does not get over the fault.
    """
    sweep = scene.sweep
    sweep.wait_for_training()
    before = sweep.events()
    hit = running(folded(before))
    started = time.monotonic()
    what = ACTIONS[fault](scene)
    sweep.wait_for_news(hit, after=len(before), begun_again=fault in ENDS_AN_ATTEMPT)
    took_s = time.monotonic() - started
    after = sweep.events()
    return Told(fault, what, tuple(hit), tuple(lost(before, after)), trained_again(before, after), took_s)


def refuse_without_nodes(fault: Fault, *, own_nodes: bool) -> None:
    """Raise InputError for a fault that needs nodes which were started for it."""
    if not own_nodes and fault not in ANYWHERE:
        raise InputError(
            f"--faults {fault}: is tried on a cluster that is started for it alone; with --on-this-cluster there are "
            f"{', '.join(ANYWHERE)}"
        )


def refuse_without_root(fault: Fault) -> None:
    """Raise InputError for a fault whose nodes this user cannot make."""
    if fault in ISOLATING and not can_isolate():
        raise InputError(f"--faults {fault}: gives each node a disk or a network, for which it needs root and `ip`")


def trained_again(before: Sequence[Event], after: Sequence[Event]) -> int:
    """Results of ``after`` that ``before`` held already."""
    known = {(event.trial, event.unit) for event in before if isinstance(event, Trained | Validated)}
    later = [event for event in after[len(before) :] if isinstance(event, Trained | Validated)]
    return sum((event.trial, event.unit) in known for event in later)


def _kill_worker(scene: Scene) -> str:
    worker = scene.worker()
    worker.send(signal.SIGKILL)
    return f"killed worker {worker.pid} on node {worker.node[:SHOWN]}"


def _freeze_worker(scene: Scene) -> str:
    worker = scene.worker()
    worker.send(signal.SIGSTOP)
    time.sleep(FROZEN_S)
    worker.send(signal.SIGCONT)
    return f"stopped worker {worker.pid} on node {worker.node[:SHOWN]} for {FROZEN_S:.0f} s"


def _freeze_for_good(scene: Scene) -> str:
    worker = scene.worker()
    worker.send(signal.SIGSTOP)
    return f"stopped worker {worker.pid} on node {worker.node[:SHOWN]} for good"


def _drain_node(scene: Scene) -> str:
    cluster, (node, worker) = _nodes(scene), _home_and_process(scene)
    # The notice comes amid a unit, however short units are and however long it takes to send.
    worker.send(signal.SIGSTOP)
    cluster.drain_node(node, seconds=NOTICE_S)
    time.sleep(NOTICED_S)
    worker.send(signal.SIGCONT)
    scene.sweep.wait_until(lambda: read_process(worker.pid) is None, what=f"the trial to leave node {node.name}")
    cluster.kill_node(node)
    return f"told node {node.name} that it will be gone in {NOTICE_S} s, and killed it once its trial had left"


def _kill_node(scene: Scene) -> str:
    worker = scene.worker()
    how = worker.end_node()
    return f"killed node {worker.node[:SHOWN]} {how}"


def _fill_disk(scene: Scene) -> str:
    node, _ = _home_and_process(scene)
    fill_disk(node.folder)
    return f"filled the disk of node {node.name}"


def _cut_network(scene: Scene) -> str:
    cluster, (node, _) = _nodes(scene), _home_and_process(scene)
    begun = len(scene.sweep.events())
    cluster.cut_off(node)

    def begun_again() -> bool:
        later = scene.sweep.events()[begun:]
        given_up = {event.trial for event in later if isinstance(event, Retried | Moved)}
        return any(isinstance(event, Started) and event.trial in given_up for event in later)

    took_s = scene.sweep.wait_until(begun_again, what=f"the trial of node {node.name} to begin elsewhere")
    cluster.connect(node)
    try:
        wait_until(lambda: not node.processes(), what="the end of a node", limit_s=COMES_BACK_S)
        end = "which ended by itself once it was back"
    except TimeoutError:
        end = "which was killed once it was back"
    cluster.kill_node(node)
    return f"cut the network of node {node.name} for {took_s:.0f} s, {end}"


def _add_node(scene: Scene) -> str:
    node = _nodes(scene).add_node()
    return f"node {node.name} has joined"


def _kill_driver(scene: Scene) -> str:
    pid = scene.sweep.process.pid
    scene.sweep.kill_driver()
    scene.sweep.resume()
    return f"killed driver {pid}, and began another with --resume"


def _kill_head(scene: Scene) -> str:
    cluster, nodes = _nodes(scene), len(_nodes(scene).nodes)
    cluster.head.kill()
    try:
        took_s = wait_until(scene.sweep.over, what="the driver to end", limit_s=DEATH_LIMIT_S)
        end = f"the driver ended {took_s:.0f} s later"
    except TimeoutError:
        scene.sweep.kill_driver()
        end = f"the driver, which had not ended {DEATH_LIMIT_S:.0f} s later, was killed"
    for node in list(cluster.nodes):
        cluster.kill_node(node)
    cluster.start_head()
    for _ in range(nodes):
        cluster.add_node()
    scene.sweep.resume()
    return f"killed the head; {end}; began head, nodes and driver again"


def _take_storage_away(scene: Scene) -> str:
    folder = scene.sweep.folder
    hidden = folder.with_name(f".{folder.name}-away")
    folder.rename(hidden)
    # A file in its place refuses what an absent folder would let others create.
    folder.touch()
    try:
        time.sleep(AWAY_S)
    finally:
        folder.unlink()
        hidden.rename(folder)
    return f"the sweep's folder was away for {AWAY_S:.0f} s"


ACTIONS: dict[Fault, Callable[[Scene], str]] = {
    Fault.KILL_WORKER: _kill_worker,
    Fault.KILL_NODE: _kill_node,
    Fault.ADD_NODE: _add_node,
    Fault.KILL_DRIVER: _kill_driver,
    Fault.KILL_HEAD: _kill_head,
    Fault.DRAIN_NODE: _drain_node,
    Fault.FREEZE_WORKER: _freeze_worker,
    Fault.FREEZE_FOREVER: _freeze_for_good,
    Fault.STORAGE_AWAY: _take_storage_away,
    Fault.FILL_DISK: _fill_disk,
    Fault.CUT_NETWORK: _cut_network,
}


def _nodes(scene: Scene) -> LocalCluster:
    assert isinstance(scene.cluster, LocalCluster), "refused before"
    return scene.cluster


def _home_and_process(scene: Scene) -> tuple[LocalNode, Process]:
    worker = scene.worker()
    assert isinstance(worker, LocalWorker), "refused before"
    return worker.home, worker.process
