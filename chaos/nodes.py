"""A Ray cluster of several nodes on this machine, each with processes, an address and a folder of its own.

The head has no processors, so no trial runs there, and a node that is killed takes neither the driver nor the
cluster's state with it. Addresses are those of the loopback device, 127.0.0.2 and up, which Linux has without set-up;
where networks are to be cut and disks filled, each node has one of its own.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos.isolation import Network, mount_disk, unmount_disk
from chaos.processes import Process, is_training, kill_session, processes_of, wait_until
from handclip_core.paths import CACHE_VARIABLE

HEAD_HOST = "127.0.0.2"
OBJECT_STORE_BYTES = 80 * 2**20
START_LIMIT_S = 300.0
COMMAND_LIMIT_S = 120.0
NODE_ID = "--node_id="
"""How a node's main process is told its name."""


@dataclass
class LocalNode:
    """One node: ``ray start`` and all that it started, in a session of its own."""

    name: str
    host: str
    folder: Path
    process: subprocess.Popen[bytes]
    place: int
    """Its number, in the order in which nodes were started."""

    def processes(self) -> list[Process]:
        """All that runs on it."""
        return processes_of(self.process.pid)

    def training(self) -> list[Process]:
        """The workers in which a trial trains just now."""
        return [process for process in self.processes() if is_training(process)]

    @property
    def id(self) -> str:
        """Ray's name of it."""
        lines = [process.title for process in self.processes()]
        names = [word.removeprefix(NODE_ID) for line in lines for word in line.split() if word.startswith(NODE_ID)]
        return names[0]

    def kill(self) -> None:
        """End it as a power cut would; its folder stays."""
        kill_session(self.process.pid)
        self.process.wait()


@dataclass(frozen=True)
class LocalWorker:
    """A worker on one of the nodes."""

    cluster: "LocalCluster"
    home: LocalNode
    process: Process

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.process.pid

    @property
    def node(self) -> str:
        """The name of its node."""
        return self.home.name

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing where the process has ended meanwhile."""
        self.process.send(number)

    def end_node(self) -> str:
        """Kill its node; says how."""
        self.cluster.kill_node(self.home)
        return f"with all its processes; {len(self.cluster.nodes)} left"


@dataclass
class LocalCluster:
    """The cluster: a head, and nodes that run trials."""

    folder: Path
    port: int
    cpus: int
    """Processors that each node offers."""
    variables: Mapping[str, str]
    own_caches: bool
    own_disks: bool
    launcher: Sequence[str]
    """What stands before the command that starts a node which runs trials."""
    network: Network | None
    """Where each node has a network of its own; that of the machine otherwise."""
    head: LocalNode = field(init=False)
    nodes: list[LocalNode] = field(default_factory=list)
    disks: list[Path] = field(default_factory=list)
    num_started: int = 0

    @property
    def host(self) -> str:
        """The address of the head, and of drivers."""
        return HEAD_HOST if self.network is None else self.network.host

    @property
    def environment(self) -> dict[str, str]:
        """What a driver, and every other program that joins the cluster, runs with."""
        python = str(Path(sys.executable).parent)
        values = {key: value for key, value in os.environ.items() if key not in ("RAY_AUTH_TOKEN", "RAY_ADDRESS")}
        return values | {
            "PATH": f"{python}{os.pathsep}{values.get('PATH', '')}",
            "RAY_ADDRESS": f"{self.host}:{self.port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }

    def start_head(self) -> None:
        """Start the head, or start it again after it was killed; raises RuntimeError where it does not come up."""
        options = ["--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false"]
        self.head = self._start(0, "head", self.host, [*options, f"--ray-client-server-port={free_port()}"])
        self._wait_for("head", self.head, lambda: self.health() == 0)

    def add_node(self) -> LocalNode:
        """Add a node; returns once it has joined."""
        self.num_started += 1
        place, name = self.num_started, f"n{self.num_started}"
        options = [f"--address={self.host}:{self.port}", f"--num-cpus={self.cpus}"]
        address = f"127.0.0.{place + 2}" if self.network is None else self.network.join(place)
        if self.own_disks:
            mount_disk(self.folder / name)
            self.disks.append(self.folder / name)
        node = self._start(place, name, address, options)
        self.nodes.append(node)
        log = self.folder / f"{name}.log"
        self._wait_for(name, node, lambda: "Ray runtime started" in log.read_text(errors="replace"))
        return node

    def training(self, driver: int) -> list[LocalWorker]:
        """The workers in which a trial trains just now; there is no other driver than ``driver``."""
        del driver
        return [LocalWorker(self, node, process) for node in self.nodes for process in node.training()]

    def kill_node(self, node: LocalNode) -> None:
        """Kill a node and forget it."""
        node.kill()
        self.nodes.remove(node)

    def cut_off(self, node: LocalNode) -> None:
        """Cut the network of a node that has one of its own."""
        assert self.network is not None, "asked for when it was started"
        self.network.cut(node.place)

    def connect(self, node: LocalNode) -> None:
        """Mend a network that was cut."""
        assert self.network is not None, "asked for when it was started"
        self.network.mend(node.place)

    def drain_node(self, node: LocalNode, *, seconds: int) -> None:
        """Tell the cluster that a node will be gone in so many seconds, as a cloud's notice does."""
        command = ["ray", "drain-node", "--address", f"{self.host}:{self.port}", "--node-id", node.id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a fault on purpose"]
        command += ["--deadline-remaining-seconds", str(seconds)]
        subprocess.run(command, env=self.environment, capture_output=True, timeout=COMMAND_LIMIT_S, check=True)

    def cache_of(self, node: LocalNode) -> Path:
        """The node's folder for caches, where each has one of its own."""
        return self.folder / f"{node.name}-cache"

    def health(self) -> int:
        """The exit code of ``ray health-check``: 0 where the head answers."""
        command = ["ray", "health-check", "--address", f"{self.host}:{self.port}"]
        return subprocess.run(
            command, env=self.environment, capture_output=True, timeout=COMMAND_LIMIT_S, check=False
        ).returncode

    def stop(self) -> None:
        """Kill every node and remove all that they wrote, whatever of that fails."""
        with ExitStack() as last:
            last.callback(shutil.rmtree, self.folder, ignore_errors=True)
            if self.network is not None:
                last.callback(self.network.remove)
            for disk in self.disks:
                last.callback(unmount_disk, disk)
            for node in (*self.nodes, *([self.head] if hasattr(self, "head") else [])):
                last.callback(node.kill)

    def _start(self, place: int, name: str, host: str, options: list[str]) -> LocalNode:
        node = self.folder / name
        temporary = node / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in self.environment.items() if key != "RAY_ADDRESS"}
        environment["TMPDIR"] = str(temporary)
        if self.own_caches:
            environment[CACHE_VARIABLE] = str(self.folder / f"{name}-cache")
        command = ["ray", "start", "--block", f"--node-ip-address={host}", f"--temp-dir={node}", *options]
        command += [f"--object-store-memory={OBJECT_STORE_BYTES}", "--dashboard-agent-listen-port=0"]
        if place:
            command = [*self.launcher, *command]
        if self.network is not None and place:
            command = [*self.network.within(place), *command]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return LocalNode(name, host, node, process, place)

    def _wait_for(self, name: str, node: LocalNode, up: Callable[[], bool]) -> None:
        def up_or_over() -> bool:
            return node.process.poll() is not None or up()

        wait_until(up_or_over, what=f"node {name}", limit_s=START_LIMIT_S)
        if node.process.poll() is not None:
            log = (self.folder / f"{name}.log").read_text(errors="replace")
            raise RuntimeError(f"node {name} did not come up:\n{log[-2000:]}")


@contextmanager
def local_cluster(
    *,
    nodes: int = 2,
    cpus: int = 1,
    variables: Mapping[str, str] | None = None,
    own_caches: bool = False,
    own_networks: bool = False,
    own_disks: bool = False,
    launcher: Sequence[str] = (),
) -> Iterator[LocalCluster]:
    """A cluster of so many nodes beside its head; nothing of it is left after the block.

    ``variables`` join the environment of nodes and drivers; with ``own_caches`` each node has a cache of its own, and
    so with networks and disks, which only root can make. ``launcher`` is put before the command that starts a node, and
    must become it. Raises RuntimeError where the system refuses one.
    """
    # The names of sockets are limited, so not in a test's or a sweep's folder.
    folder = Path(tempfile.mkdtemp(prefix="hc-", dir="/tmp"))
    cluster = LocalCluster(folder, free_port(), cpus, dict(variables or {}), own_caches, own_disks, launcher, None)
    try:
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        if own_networks:
            cluster.network = Network.make()
        cluster.start_head()
        for _ in range(nodes):
            cluster.add_node()
        yield cluster
    finally:
        cluster.stop()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("", 0))
        port: int = found.getsockname()[1]
        return port
