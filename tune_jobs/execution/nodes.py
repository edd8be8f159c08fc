"""Where trials run, seen by the driver while they do: machines that come, go or are about to, and processes on them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray._private.state import state
from ray.util.placement_group import PlacementGroup, remove_placement_group

from tune_jobs.execution import cluster
from tune_jobs.execution.cluster import Node, TrialResources
from tune_jobs.execution.train_internals import remove_abandoned_groups, remove_group

NO_DEADLINE = float("inf")


class Nodes(Protocol):
    """The cluster as one driver's trials see it."""

    def at_a_time(self, allowed: Mapping[str, int]) -> int:
        """Trials that may be under way now, those that wait for a place included.

        A machine has no more than are ``allowed`` there, if that is said. At least 1 in all, unless one may have none.
        """
        ...

    def places(self, node_id: str) -> int:
        """Processes of trials that a machine has a place for, taken or free; 0 if it is not there."""
        ...

    def can_run_trial(self, *, without: Collection[str]) -> bool:
        """Whether other machines have a place for a trial, taken or free."""
        ...

    def leaving(self) -> Mapping[str, float]:
        """Machines that are about to go, and when, in seconds since 1970; infinity where nobody said."""
        ...

    def hold(self, node_id: str, *, leave: int) -> None:
        """Take places of a machine as they get free, so that it has room for ``leave`` trials; may be called again."""
        ...

    def release(self, node_id: str) -> None:
        """Let go of them."""
        ...

    def node_of(self, process: str) -> str:
        """The machine on which a trial's process, by Ray's name of it, runs or ran; empty where that is not known."""
        ...

    def end(self, actor: Any) -> None:
        """End that process, even if it is frozen."""
        ...

    def free(self, group: str) -> None:
        """End the workers of a trial of several that is over, by their placement group."""
        ...

    def remove_abandoned(self) -> None:
        """Free the places of trials of several workers that were ended."""
        ...


@dataclass(frozen=True)
class FixedNodes:
    """A cluster on which nothing ever changes."""

    trial_resources: TrialResources

    def at_a_time(self, allowed: Mapping[str, int]) -> int:
        """As many as at the start."""
        del allowed
        return self.trial_resources.concurrent

    def places(self, node_id: str) -> int:
        """As many as at the start."""
        del node_id
        return self.trial_resources.concurrent * self.trial_resources.workers

    def can_run_trial(self, *, without: Collection[str]) -> bool:
        """It has none but its own machines, which go by no name."""
        return not without

    def leaving(self) -> Mapping[str, float]:
        """None."""
        return {}

    def hold(self, node_id: str, *, leave: int) -> None:
        """Nothing to hold."""

    def release(self, node_id: str) -> None:
        """Nothing to let go of."""

    def node_of(self, process: str) -> str:
        """Nothing is known of it."""
        del process
        return ""

    def end(self, actor: Any) -> None:
        """Nothing to end."""

    def free(self, group: str) -> None:
        """Nothing to free."""

    def remove_abandoned(self) -> None:
        """Nothing to free."""


@dataclass
class RayNodes:
    """The Ray cluster that this process has joined. Machines go by Ray's names."""

    trial_resources: TrialResources
    _known: dict[str, str] = field(default_factory=dict)
    _held: dict[str, list[PlacementGroup]] = field(default_factory=dict)

    def at_a_time(self, allowed: Mapping[str, int]) -> int:
        """What the machines hold that are there and stay, and the trials that are to wait for more."""
        return cluster.at_a_time(self.trial_resources, cluster.nodes(), allowed=allowed)

    def places(self, node_id: str) -> int:
        """What Ray has of it."""
        return sum(cluster.places(self.trial_resources, node) for node in cluster.nodes() if node.id == node_id)

    def can_run_trial(self, *, without: Collection[str]) -> bool:
        """Whether a trial fits onto those that are there and stay."""
        return cluster.fits(self.trial_resources, _others(without)) > 0

    def leaving(self) -> Mapping[str, float]:
        """Machines that Ray was told to drain."""
        return {node: at_ms / 1000 or NO_DEADLINE for node, at_ms in state.get_draining_nodes().items()}

    def hold(self, node_id: str, *, leave: int) -> None:
        """Nothing where it has gone meanwhile."""
        held = self._held.setdefault(node_id, [])
        wanted = self.places(node_id) - leave * self.trial_resources.workers
        while len(held) > max(0, wanted):
            remove_placement_group(held.pop())
        held += [cluster.hold(self.trial_resources, node_id) for _ in range(wanted - len(held))]

    def release(self, node_id: str) -> None:
        """Trials may be put there again."""
        for group in self._held.pop(node_id, []):
            remove_placement_group(group)

    def node_of(self, process: str) -> str:
        """Where Ray has started it, asked once a process."""
        if process not in self._known:
            found = state.actor_table(process)
            if not found:
                return ""
            self._known[process] = found["Address"]["NodeID"]
        return self._known[process]

    def end(self, actor: Any) -> None:
        """A process that is frozen does not hear Ray, which kills it by a signal a few seconds later."""
        ray.kill(actor)

    def free(self, group: str) -> None:
        """Ray ends the workers in it."""
        remove_group(group)

    def remove_abandoned(self) -> None:
        """A trial of one worker has its places from Tune, which frees them."""
        if self.trial_resources.workers > 1:
            remove_abandoned_groups()


def _others(without: Collection[str]) -> list[Node]:
    return [node for node in cluster.nodes() if node.id not in without]
