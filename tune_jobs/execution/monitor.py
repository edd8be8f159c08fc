"""Trials that have to leave their worker: frozen, or on a node about to go; and nodes that get fewer trials."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ray.tune.experiment import Trial

from tune_jobs.execution.nodes import RayNodes
from tune_jobs.execution.trainable import number_of
from tune_jobs.scheduling.low_memory import LowMemory
from tune_jobs.scheduling.memory_limits import MemoryLimits
from tune_jobs.scheduling.memory_plan import largest_by_arm, told, trials_in
from tune_jobs.scheduling.retries import Failure, FailureKind
from tune_jobs.state.events import Measured
from tune_jobs.state.trials import Trials

POLL_EVERY_S = 3.0
LONGEST_GAP_S = 3 * POLL_EVERY_S
"""Silence that one poll can add, so that a driver which was itself held up blames no trial."""
SLOWER = 5.0
"""A unit may take so many times as long as the slowest one of its strategy before its worker counts as lost."""
MINUTE_S = 60.0
EXCLUDE_S = 10 * MINUTE_S
"""Seconds for which no trial is sent to a node that could not write, or on which a worker froze."""
SHOWN = 8
"""Characters of a node's name that are shown."""


class TrialMonitor:
    """Watches the workers of running trials, and ends those that trials have to leave.

    Tune then reports the attempt as failed; ``why`` tells what it really was.
    """

    def __init__(
        self, all_trials: Trials, nodes: RayNodes, stall_s: float, clock: Callable[[], float], workers: int = 1
    ) -> None:
        """Workers count as lost after ``stall_s`` seconds without a finished unit; a trial has so many ``workers``."""
        self._all_trials, self._nodes, self._clock, self._workers = all_trials, nodes, clock, workers
        self._stall_s = stall_s
        self._memory = MemoryLimits(clock)
        self._leaving: Mapping[str, float] = {}
        self._at_a_time: int | None = None
        self._polled_at: float | None = None
        self._asked_at = clock()
        self._why: dict[str, Failure] = {}
        # By trial: when its worker was asked for, seconds since its last result, and where its workers are.
        self._asked_for: dict[int, float] = {}
        self._silent_s: dict[int, float] = {}
        self._where: dict[int, str] = {}
        self._nodes_of: dict[int, frozenset[str]] = {}
        self._groups: dict[int, str] = {}
        # By node.
        self._excluded_until: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._planned: dict[str, int] = {}
        self._told_of: set[str] = set()

    def at_a_time(self) -> int:
        """Trials that may be under way, as of the last poll."""
        if self._at_a_time is None:
            self._at_a_time = self._nodes.at_a_time(self._limits())
        return self._at_a_time

    def asked_for(self, number: int) -> None:
        """A worker for a trial has been asked for."""
        self._asked_for[number] = self._clock()

    def locate(self, trial: Trial) -> None:
        """Note where a trial's worker is, while Tune knows its worker; several are known by their first result."""
        if self._workers == 1 and trial.temporary_state.ray_actor is not None:
            self._where[number_of(trial)] = self._nodes.node_of(_process(trial))

    def heard_of(self, trial: Trial, nodes: Sequence[str] = (), group: str = "") -> None:
        """A trial has begun, had a result, of several workers on ``nodes`` in ``group``, or saved its state."""
        number = number_of(trial)
        if nodes:
            self._nodes_of[number], self._where[number], self._groups[number] = frozenset(nodes), nodes[0], group
        self._silent_s[number] = 0.0
        self._memory.had_result(self._where.get(number, ""))

    def ended(self, trial: Trial) -> str:
        """A trial has left its worker; returns the node that it was on, empty if that is not known."""
        if self._excluded_until:
            self._at_a_time = None
        self._nodes_of.pop(number_of(trial), None)
        if group := self._groups.pop(number_of(trial), ""):
            self._nodes.free(group)
        if trial.config.get("tells"):
            self._nodes.measured(trial.config)  # so that nothing of it is left on the cluster
        return self._where.pop(number_of(trial), "")

    def failed(self, trial: Trial, failure: Failure, *, under_way: int) -> Failure:
        """An attempt at a trial has failed, while ``under_way`` others go on; returns what is known of that now.

        Its node is excluded for a while if that may have been the node's fault, and if another has a place for a trial.
        A node that was low on memory gets one trial fewer.
        """
        node_id = self.ended(trial) or (self._nodes.node_of(failure.actor) if failure.actor else "")
        if failure.kind is FailureKind.NODE and node_id and self._has_rival(node_id):
            self._excluded_until[node_id] = self._clock() + EXCLUDE_S
        if failure.low_memory is not None:
            found = replace(failure.low_memory, node=failure.low_memory.node or node_id)
            alone = self._memory.worker_killed(
                found,
                others=self._others(found.node, under_way),
                since=self._asked_for[number_of(trial)],
                workers=self._workers,
                rival=self._has_rival(found.node),
            )
            failure = replace(failure, alone=alone, low_memory=found)
        self._hold()
        return failure

    def node_was_low(self, found: LowMemory, *, at_a_time: int) -> None:
        """A node that ran up to ``at_a_time`` trials was low on memory before this driver began."""
        ran = min(at_a_time, self._nodes.places(found.node) // self._workers)
        self._memory.worker_killed(found, others=max(1, ran - 1), since=self._clock(), rival=False)
        self._hold()

    def told(self, failure: Failure) -> str:
        """A failure in words, and what becomes of its node if that was low on memory."""
        node = "" if failure.low_memory is None else failure.low_memory.node
        becomes = self._memory.told(node)
        return f"{failure.reason}; node {node[:SHOWN]} {becomes}" if becomes else failure.reason

    def excluded_nodes(self) -> tuple[str, ...]:
        """The nodes to which no trial is sent."""
        return tuple(self._excluded_until)

    def release(self) -> None:
        """Let every node have as many trials as it has places for."""
        self._excluded_until.clear()
        self._planned.clear()
        self._memory.reset()
        self._hold()

    def poll(self, trials: Sequence[Trial]) -> Sequence[str]:
        """See what nodes there are, and end the workers that trials have to leave; every few seconds only.

        A line for each node whose memory has room for fewer trials than it has places, the first time.
        """
        now = self._clock()
        if self._polled_at is not None and now - self._polled_at < POLL_EVERY_S:
            return ()
        self._nodes.remove_abandoned()
        since_s = 0.0 if self._polled_at is None else min(now - self._polled_at, LONGEST_GAP_S)
        self._polled_at, self._leaving = now, self._nodes.leaving()
        # Rather a node that may be at fault than none.
        if self._excluded_until and not self._nodes.can_run_trial(without=self._excluded_until):
            self._excluded_until.clear()
        self._excluded_until = {node_id: until for node_id, until in self._excluded_until.items() if until > now}
        news = self._plan()
        self._hold()
        for trial in trials:
            if trial.status == Trial.RUNNING:
                self._check_trial(trial, since_s, now)
        return news

    def measured(self, trials: Sequence[Trial]) -> Sequence[Measured]:
        """How far workers have told they are in the first unit of their trials; asked every few seconds only."""
        now = self._clock()
        if now - self._asked_at < POLL_EVERY_S:
            return ()
        self._asked_at = now
        running = [trial for trial in trials if trial.status == Trial.RUNNING and trial.config.get("tells")]
        told = {number_of(trial): self._nodes.measured(trial.config) for trial in running}
        return [Measured(at=now, trial=number, **found) for number, found in told.items() if found is not None]

    def leaving_node(self, trial: Trial) -> str:
        """The node of a trial's workers that is the first to go, empty if none is about to."""
        if not self._leaving or trial.temporary_state.ray_actor is None:
            return ""
        known = self._nodes_of.get(number_of(trial)) or {self._nodes.node_of(_process(trial))}
        return min(known & self._leaving.keys(), key=lambda node_id: self._leaving[node_id], default="")

    def leave(self, trial: Trial) -> None:
        """End the worker of a trial that has nothing unsaved, if its node is about to go.

        That goes for a trial that is over, too: the next one must not get this worker.
        """
        if node_id := self.leaving_node(trial):
            self._end(trial, Failure(f"node {node_id[:SHOWN]} is about to go", FailureKind.MOVED))

    def why(self, failure: Failure) -> Failure:
        """What a failure really was, if this monitor has brought it about."""
        return self._why.get(failure.actor, failure)

    def _check_trial(self, trial: Trial, since_s: float, now: float) -> None:
        number = number_of(trial)
        view = self._all_trials.trials[number]
        silent_s = self._silent_s[number] = self._silent_s.get(number, 0.0) + since_s
        unit_s = max(other.slowest_s for other in self._all_trials.all() if other.arm == view.arm)
        # Twice as long after each failure, so that a trial which is slow and not frozen gets through in the end.
        if silent_s >= max(self._stall_s, SLOWER * unit_s) * 2**view.failures:
            reason = f"no result for {silent_s / MINUTE_S:.3g} minutes, so its worker counts as lost"
            self._end(trial, Failure(reason, FailureKind.NODE))
        elif (node_id := self.leaving_node(trial)) and now + unit_s - silent_s > self._leaving[node_id]:
            self.leave(trial)

    def _others(self, node: str, under_way: int) -> int:
        """Trials, of those ``under_way``, that may run on ``node``, on which the worker of another has just ended."""
        if self._workers > 1:
            return under_way  # only the node of a trial's first process is known
        running = Counter(self._where.values())
        # A worker that starts may be anywhere that has a place for it.
        starting, left = under_way - running.total(), self._nodes.places(node) - running[node] - 1
        return running[node] + max(0, min(starting, left))

    def _has_rival(self, node: str) -> bool:
        """Whether another node has a place for a trial, of those that may run any now."""
        paused = (node_id for node_id, trials in self._memory.allowed().items() if trials == 0)
        return self._nodes.can_run_trial(without={*self._excluded_until, *paused, node})

    def _limits(self) -> dict[str, int]:
        """The trials of nodes that are to run fewer than they have places for; excluded ones keep what runs there."""
        running = Counter(self._where.values())
        return self._fewer() | {node_id: running[node_id] for node_id in self._excluded_until}

    def _fewer(self) -> dict[str, int]:
        """The trials of nodes that are or would be low on memory with more."""
        low = self._memory.allowed()
        return {node: min(self._planned.get(node, trials), trials) for node, trials in (self._planned | low).items()}

    def _plan(self) -> list[str]:
        """Look which nodes have room for fewer trials than they have places for, by what trials were seen to hold.

        Of several workers nobody knows how they are spread, so such trials are not planned.
        """
        largest = largest_by_arm(self._all_trials.all()) if self._workers == 1 else {}
        planned, news = dict[str, int](), []
        for node, room in (self._nodes.memory() if largest else {}).items():
            running = [self._all_trials.trials[number] for number, where in self._where.items() if where == node]
            trials = trials_in(room, running, largest)
            if trials < self._nodes.places(node):
                planned[node] = trials
                if node not in self._told_of:
                    self._told_of.add(node)
                    news.append(told(node[:SHOWN], trials, room, largest))
        self._planned = planned
        return news

    def _hold(self) -> None:
        """Keep trials from nodes as far as they are to run fewer than they have places for."""
        wanted = self._fewer() | dict.fromkeys(self._excluded_until, 0)
        for node_id in self._held.keys() - wanted.keys():
            self._nodes.release(node_id)
        for node_id, leave in wanted.items():
            if self._held.get(node_id) != leave:
                self._nodes.hold(node_id, leave=leave)
        self._held, self._at_a_time = wanted, None

    def _end(self, trial: Trial, failure: Failure) -> None:
        actor = trial.temporary_state.ray_actor
        # The first reason stays: a process takes seconds to end, in which others may be found.
        if actor is not None and _process(trial) not in self._why:
            self._why[_process(trial)] = failure
            self._nodes.end(actor)


def _process(trial: Trial) -> str:
    """Ray's name of a trial's worker."""
    return str(trial.temporary_state.ray_actor._actor_id.hex())
