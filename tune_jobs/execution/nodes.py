"""Where trials run, seen by the driver while they do: nodes that come, go or are about to, and processes on them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray._private.state import state
from ray.experimental import internal_kv
from ray.util.placement_group import PlacementGroup, remove_placement_group

from tune_jobs.execution import cluster
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.train_internals import remove_abandoned_groups, remove_group
from tune_jobs.execution.trainable import MEASURED, measured_key

NO_DEADLINE = float("inf")


@dataclass
class RayNodes:
    """The Ray cluster that this process has joined. Nodes, and processes on them, go by Ray's names."""

    trial_resources: TrialResources
    _known: dict[str, str] = field(default_factory=dict)
    _held: dict[str, list[PlacementGroup]] = field(default_factory=dict)

    def at_a_time(self, allowed: Mapping[str, int]) -> int:
        """Trials that may be under way now, as ``cluster.at_a_time`` says of the nodes that are there and stay."""
        return cluster.at_a_time(self.trial_resources, cluster.nodes(), allowed=allowed)

    def places(self, node_id: str) -> int:
        """Processes of trials that a node has a place for, taken or free; 0 if it is not there."""
        return sum(cluster.places(self.trial_resources, node) for node in cluster.nodes() if node.id == node_id)

    def memory(self) -> Mapping[str, int]:
        """Bytes that each node has for trials; of which nobody knows it is left out."""
        return {node.id: node.memory for node in cluster.nodes() if node.memory}

    def can_run_trial(self, *, without: Collection[str]) -> bool:
        """Whether other nodes have a place for a trial, taken or free."""
        return cluster.fits(self.trial_resources, [node for node in cluster.nodes() if node.id not in without]) > 0

    def leaving(self) -> Mapping[str, float]:
        """Nodes that Ray was told to drain, and when they go, in seconds since 1970; infinity if nobody said."""
        # Ray says 0 if nobody said.
        return {node: at_ms / 1000 or NO_DEADLINE for node, at_ms in state.get_draining_nodes().items()}

    def hold(self, node_id: str, *, leave: int) -> None:
        """Take places of a node as they get free, so that it has room for ``leave`` trials; may be called again."""
        held = self._held.setdefault(node_id, [])
        wanted = self.places(node_id) - leave * self.trial_resources.workers
        while len(held) > max(0, wanted):
            remove_placement_group(held.pop())
        held += [cluster.hold(self.trial_resources, node_id) for _ in range(wanted - len(held))]

    def release(self, node_id: str) -> None:
        """Give all places of a node back."""
        for group in self._held.pop(node_id, []):
            remove_placement_group(group)

    def node_of(self, process: str) -> str:
        """The node on which a trial's process runs or ran, asked once; empty if that is not known."""
        if process not in self._known:
            found = state.actor_table(process)
            node_id = str(found["Address"]["NodeID"]) if found else ""
            # Not remembered: a process that has only been asked for, or has no node yet, is known a moment later.
            if not node_id:
                return ""
            self._known[process] = node_id
        return self._known[process]

    def measured(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """What the worker of a trial's ``config`` last told of its first unit; None if nothing is new."""
        key = measured_key(config)
        told = internal_kv._internal_kv_get(key, namespace=MEASURED)
        if told is None:
            return None
        internal_kv._internal_kv_del(key, namespace=MEASURED)
        found: dict[str, Any] = json.loads(told)
        return found

    def end(self, actor: Any) -> None:
        """End a process; one that is frozen does not hear Ray, which kills it by a signal a few seconds later."""
        ray.kill(actor)

    def free(self, group: str) -> None:
        """End the workers of a trial of several that is over, by their placement group."""
        remove_group(group)

    def remove_abandoned(self) -> None:
        """Free the places of trials of several workers that were ended; of one worker, Tune frees its place."""
        if self.trial_resources.workers > 1:
            remove_abandoned_groups()
