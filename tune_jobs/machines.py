"""Where trials run, seen by the driver while they do: machines that come, go or are about to, and processes on them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray._private.state import state

from tune_jobs import cluster
from tune_jobs.cluster import Node, Room

NO_DEADLINE = float("inf")


class Machines(Protocol):
    """The cluster as one driver's trials see it."""

    def at_a_time(self, *, without: Collection[str] = ()) -> int:
        """Trials that may be under way now on other machines, those that wait for a place included; at least 1."""
        ...

    def has_room(self, *, without: Collection[str]) -> bool:
        """Whether other machines have a place for a trial, taken or free."""
        ...

    def leaving(self) -> Mapping[str, float]:
        """Machines that are about to go, and when, in seconds since 1970; infinity where nobody said."""
        ...

    def machine_of(self, actor: Any) -> str:
        """The machine on which the process behind a trial's handle runs; empty where there is none any more."""
        ...

    def end(self, actor: Any) -> None:
        """End that process, even if it is frozen."""
        ...


@dataclass(frozen=True)
class Still:
    """A cluster on which nothing ever changes."""

    room: Room

    def at_a_time(self, *, without: Collection[str] = ()) -> int:
        """As many as at the start."""
        del without
        return self.room.concurrent

    def has_room(self, *, without: Collection[str]) -> bool:
        """It has none but its own machines, which go by no name."""
        return not without

    def leaving(self) -> Mapping[str, float]:
        """None."""
        return {}

    def machine_of(self, actor: Any) -> str:
        """Nothing is known of it."""
        del actor
        return ""

    def end(self, actor: Any) -> None:
        """Nothing to end."""


@dataclass
class RayMachines:
    """The Ray cluster that this process has joined. Machines go by Ray's names."""

    room: Room
    _known: dict[str, str] = field(default_factory=dict)

    def at_a_time(self, *, without: Collection[str] = ()) -> int:
        """What the machines hold that are there and stay, and the trials that are to wait for more."""
        return cluster.at_a_time(self.room, _others(without))

    def has_room(self, *, without: Collection[str]) -> bool:
        """Whether a trial fits onto those that are there and stay."""
        return cluster.fits(self.room, _others(without)) > 0

    def leaving(self) -> Mapping[str, float]:
        """Machines that Ray was told to drain."""
        return {node: at_ms / 1000 or NO_DEADLINE for node, at_ms in state.get_draining_nodes().items()}

    def machine_of(self, actor: Any) -> str:
        """Where Ray has started it, asked once a process."""
        name = actor._actor_id.hex()
        if name not in self._known:
            found = state.actor_table(name)
            if not found or found["State"] != "ALIVE":
                return ""
            self._known[name] = found["Address"]["NodeID"]
        return self._known[name]

    def end(self, actor: Any) -> None:
        """A process that is frozen does not hear Ray, which kills it by a signal a few seconds later."""
        ray.kill(actor)


def _others(without: Collection[str]) -> list[Node]:
    return [node for node in cluster.nodes() if node.id not in without]
