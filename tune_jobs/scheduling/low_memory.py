"""A worker that Ray killed because its node was low on memory: what Ray says of it, read from its words.

Ray 2.60 gives the text alone. What it no longer says, or says in other words, is left unknown.
"""

import os
import re
from dataclasses import dataclass

from tune_jobs.scheduling.limits import GIB

LOW_MEMORY = "low on memory"
"""How Ray says it, whatever else it says."""
FEW_GIB = 1.0
"""What a node in use otherwise holds anyway."""

_NODE = re.compile(r"Memory on the node(?: \(.*?ID: (\w+)\))? was ([\d.]+)GB(?: used)? / ([\d.]+)GB")
_ALLOWED = re.compile(r"exceeded threshold of (\d+)B")
_WORKER = re.compile(r"(Selected to kill: )?\((?:Actor\((\w+)\)|Task): .*pid=(\d+), actual memory used=([\d.]+)GB")
_USER = re.compile(r"^(\d+)\t([\d.]+)\t(.*)$", re.MULTILINE)
_SERVICE = re.compile(r"^ray::(IDLE|DashboardAgent|RuntimeEnvAgent)|-packages/ray/")
"""The commands of Ray's own processes."""


@dataclass(frozen=True)
class LowMemory:
    """How a node stood when Ray killed a worker on it. Numbers are GiB, None if Ray did not say."""

    node: str = ""
    """Ray's name of the node."""
    used_gib: float | None = None
    total_gib: float | None = None
    allowed_gib: float | None = None
    """Above this Ray kills workers."""
    wanted_gib: float | None = None
    """What the worker held by then; it would have taken more."""
    num_killed: int = 1
    """Workers that were killed at once."""
    foreign_gib: float = 0.0
    """What processes held that are not those of this cluster, nor this one; Ray lists the largest ones only."""

    @property
    def is_busy_elsewhere(self) -> bool:
        """Whether others hold so much of the node that it says little about the trial."""
        return self.foreign_gib >= max(FEW_GIB, (self.allowed_gib or 0.0) / 4)

    def __str__(self) -> str:
        """In words."""
        used = None if self.used_gib is None else f"{self.used_gib:.1f} of {self.total_gib:.1f} GiB used"
        allowed = None if self.allowed_gib is None else f"{self.allowed_gib:.1f} allowed"
        wanted = None if self.wanted_gib is None else f"{self.wanted_gib:.1f} GiB or more wanted"
        known = ", ".join(filter(None, (used, allowed, wanted)))
        return f"node {LOW_MEMORY} ({known})" if known else f"node {LOW_MEMORY}"


def is_low_memory(text: str) -> bool:
    """Whether Ray's ``text`` says that a worker was killed for the memory of its node."""
    return LOW_MEMORY in text.lower()


def read_low_memory(text: str, *, actor: str = "") -> LowMemory:
    """What Ray's ``text`` says about its killing the worker ``actor``, which goes by no name before it has begun."""
    node, allowed, workers = _NODE.search(text), _ALLOWED.search(text), _WORKER.findall(text)
    killed = {name: float(gib) for selected, name, _, gib in workers if selected}
    wanted = killed.get(actor, killed.get(""))
    # The driver, and the workers that Ray weighed.
    own = {str(os.getpid()), *(pid for _, _, pid, _ in workers)}
    foreign = [gib for pid, gib, command in _USER.findall(text) if pid not in own and not _SERVICE.search(command)]
    return LowMemory(
        node=(node[1] or "") if node else "",
        used_gib=float(node[2]) if node else None,
        total_gib=float(node[3]) if node else None,
        allowed_gib=int(allowed[1]) / GIB if allowed else None,
        wanted_gib=next(iter(killed.values())) if wanted is None and len(killed) == 1 else wanted,
        num_killed=max(1, len(killed)),
        foreign_gib=sum(map(float, foreign)),
    )
