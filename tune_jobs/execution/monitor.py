"""Trials that have to leave their worker: frozen, or on a machine about to go; and machines that get fewer trials."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ray.tune.experiment import Trial

from tune_jobs.execution.nodes import Nodes
from tune_jobs.execution.trainable import number_of
from tune_jobs.scheduling.low_memory import LowMemory
from tune_jobs.scheduling.memory_limits import MemoryLimits
from tune_jobs.scheduling.retries import Failure, FailureKind
from tune_jobs.state.trials import Trials, TrialView

POLL_EVERY_S = 3.0
LONGEST_GAP_S = 3 * POLL_EVERY_S
"""Silence that one look can add, so that a driver which was itself held up blames no trial."""
SLOWER = 5.0
"""A unit may take so many times as long as the slowest one of its strategy before its worker counts as lost."""
MINUTE_S = 60.0
EXCLUDE_S = 10 * MINUTE_S
"""Seconds for which no trial is sent to a machine that could not write, or on which a worker froze."""
SHOWN = 8
"""Characters of a machine's name that are shown."""


@dataclass
class TrialMonitor:
    """Watches the workers of running trials, and ends those that trials have to leave.

    Tune then reports the attempt as failed; ``why`` tells the recorder what it really was.
    """

    all_trials: Trials
    nodes: Nodes
    stall_s: float
    """Seconds without a finished unit after which a worker counts as lost, if units have not been slow."""
    clock: Callable[[], float]
    workers: int = 1
    """Processes of a trial."""
    _leaving: Mapping[str, float] = field(default_factory=dict)
    _at_a_time: int | None = None
    _polled_at: float | None = None
    _silent_s: dict[int, float] = field(default_factory=dict)
    _why: dict[str, Failure] = field(default_factory=dict)
    _where: dict[int, str] = field(default_factory=dict)
    _nodes: dict[int, frozenset[str]] = field(default_factory=dict)
    _groups: dict[int, str] = field(default_factory=dict)
    _asked_for: dict[int, float] = field(default_factory=dict)
    _excluded_until: dict[str, float] = field(default_factory=dict)
    _memory: MemoryLimits = field(init=False)
    _held: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._memory = MemoryLimits(self.clock)

    def at_a_time(self) -> int:
        """Trials that may be under way, as of the last look."""
        if self._at_a_time is None:
            self._at_a_time = self.nodes.at_a_time(self._limits())
        return self._at_a_time

    def asked_for(self, number: int) -> None:
        """A worker for a trial has been asked for."""
        self._asked_for[number] = self.clock()

    def begun(self, trial: Trial) -> None:
        """A trial has begun on some machine."""
        self.heard_of(trial)
        self.locate(trial)

    def locate(self, trial: Trial) -> None:
        """Note where a trial's worker is, while Tune knows its worker; several are known by their first result."""
        if self.workers == 1 and trial.temporary_state.ray_actor is not None:
            self._where[number_of(trial)] = self.nodes.node_of(_process(trial))

    def heard_of(self, trial: Trial, nodes: Sequence[str] = (), group: str = "") -> None:
        """A trial has had a result, of several workers on ``nodes`` in ``group``, or has saved its state."""
        number = number_of(trial)
        if nodes:
            self._nodes[number], self._where[number], self._groups[number] = frozenset(nodes), nodes[0], group
        self._silent_s[number] = 0.0
        self._memory.had_result(self._where.get(number, ""))

    def ended(self, trial: Trial) -> str:
        """A trial has left its worker; returns the machine that it was on, empty where that is not known."""
        if self._excluded_until:
            self._at_a_time = None
        self._nodes.pop(number_of(trial), None)
        if group := self._groups.pop(number_of(trial), ""):
            self.nodes.free(group)
        return self._where.pop(number_of(trial), "")

    def failed(self, trial: Trial, failure: Failure, *, under_way: int) -> Failure:
        """An attempt at a trial has failed, while ``under_way`` others go on; returns what is known of that now.

        Its machine is kept clear for a while if that may have been the machine's fault, and if another has a place for
        a trial. If the machine was low on memory it gets one trial fewer.
        """
        node_id = self.ended(trial) or (self.nodes.node_of(failure.actor) if failure.actor else "")
        if (
            failure.kind is FailureKind.NODE
            and node_id
            and self.nodes.can_run_trial(without={*self._closed(), node_id})
        ):
            self._excluded_until[node_id] = self.clock() + EXCLUDE_S
        if failure.low_memory is not None:
            found = replace(failure.low_memory, node=failure.low_memory.node or node_id)
            alone = self._memory.worker_killed(
                found,
                others=self._others(found.node, under_way),
                since=self._asked_for[number_of(trial)],
                workers=self.workers,
                rival=self.nodes.can_run_trial(without={*self._closed(), found.node}),
            )
            failure = replace(failure, alone=alone, low_memory=found)
        self._hold()
        return failure

    def node_was_low(self, found: LowMemory, *, at_a_time: int) -> None:
        """A node that ran up to ``at_a_time`` trials was low on memory before this driver began."""
        ran = min(at_a_time, self.nodes.places(found.node) // self.workers)
        self._memory.worker_killed(found, others=max(1, ran - 1), since=self.clock(), rival=False)
        self._hold()

    def told(self, failure: Failure) -> str:
        """A failure in words, and what becomes of its machine if that was low on memory."""
        node = "" if failure.low_memory is None else failure.low_memory.node
        becomes = self._memory.told(node)
        return f"{failure.reason}; node {node[:SHOWN]} {becomes}" if becomes else failure.reason

    def excluded_nodes(self) -> tuple[str, ...]:
        """The machines that are kept clear."""
        return tuple(self._excluded_until)

    def release(self) -> None:
        """Let every machine have as many trials as it has places for."""
        self._excluded_until.clear()
        self._memory.reset()
        self._hold()

    def poll(self, trials: Sequence[Trial]) -> None:
        """See what machines there are, and end the workers that trials have to leave; every few seconds only."""
        now = self.clock()
        if self._polled_at is not None and now - self._polled_at < POLL_EVERY_S:
            return
        self.nodes.remove_abandoned()
        since_s = 0.0 if self._polled_at is None else min(now - self._polled_at, LONGEST_GAP_S)
        self._polled_at = now
        self._leaving, self._at_a_time = self.nodes.leaving(), None
        self._release_some(now)
        for trial in trials:
            if trial.status == Trial.RUNNING:
                self._check_trial(trial, since_s, now)

    def must_leave(self, trial: Trial) -> bool:
        """Whether a machine of a trial's workers is about to go."""
        return self._leaving_machine(trial) != ""

    def leave(self, trial: Trial) -> None:
        """End the worker of a trial that has nothing unsaved, if its machine is about to go.

        That goes for a trial that is over, too: the next one must not get this worker.
        """
        if self.must_leave(trial):
            self._end(trial, _moved(self._leaving_machine(trial)))

    def why(self, failure: Failure) -> Failure:
        """What a failure really was, where this guard has brought it about."""
        return self._why.get(failure.actor, failure)

    def _check_trial(self, trial: Trial, since_s: float, now: float) -> None:
        number = number_of(trial)
        view = self.all_trials.trials[number]
        silent_s = self._silent_s[number] = self._silent_s.get(number, 0.0) + since_s
        unit_s = slowest_unit_s(view, self.all_trials)
        allowed_s = max(self.stall_s, SLOWER * unit_s) * 2**view.failures
        if silent_s >= allowed_s:
            reason = f"no result for {silent_s / MINUTE_S:.3g} minutes, so its worker counts as lost"
            self._end(trial, Failure(reason, FailureKind.NODE))
        elif self.must_leave(trial):
            node_id = self._leaving_machine(trial)
            if now + unit_s - silent_s > self._leaving[node_id]:
                self._end(trial, _moved(node_id))

    def _leaving_machine(self, trial: Trial) -> str:
        """The machine of a trial's workers that is the first to go, empty if none is about to."""
        if not self._leaving or trial.temporary_state.ray_actor is None:
            return ""
        known = self._nodes.get(number_of(trial)) or {self.nodes.node_of(_process(trial))}
        return min(known & self._leaving.keys(), key=lambda node_id: self._leaving[node_id], default="")

    def _release_some(self, now: float) -> None:
        """Let trials go to machines that were kept clear for long enough, and to all where there are no others left."""
        if self._excluded_until and not self.nodes.can_run_trial(without=self._excluded_until):
            self._excluded_until.clear()
        for node_id in [name for name, until in self._excluded_until.items() if until <= now]:
            del self._excluded_until[node_id]
        self._hold()

    def _others(self, node: str, under_way: int) -> int:
        """Trials, of those ``under_way``, that may run on ``node``, on which the worker of another has just ended."""
        if self.workers > 1:
            return under_way  # only the machine of a trial's first process is known
        running = Counter(self._where.values())
        # A worker that starts may be anywhere that has a place for it.
        starting, left = under_way - running.total(), self.nodes.places(node) - running[node] - 1
        return running[node] + max(0, min(starting, left))

    def _limits(self) -> dict[str, int]:
        """The trials that machines may run which are to run fewer than they have places for.

        One that is kept clear may keep what still runs there.
        """
        running = Counter(self._where.values())
        return self._memory.allowed() | {node_id: running[node_id] for node_id in self._excluded_until}

    def _closed(self) -> set[str]:
        """Machines on which no trial is to be put now."""
        return {*self._excluded_until, *(node_id for node_id, trials in self._memory.allowed().items() if trials == 0)}

    def _hold(self) -> None:
        """Keep trials from machines as far as they are to run fewer than they have places for."""
        wanted = self._limits() | dict.fromkeys(self._excluded_until, 0)
        for node_id in self._held.keys() - wanted.keys():
            self.nodes.release(node_id)
        for node_id, leave in wanted.items():
            if self._held.get(node_id) != leave:
                self.nodes.hold(node_id, leave=leave)
        self._held, self._at_a_time = wanted, None

    def _end(self, trial: Trial, failure: Failure) -> None:
        actor = trial.temporary_state.ray_actor
        if actor is not None and _process(trial) not in self._why:
            self._why[_process(trial)] = failure
            self.nodes.end(actor)


def slowest_unit_s(view: TrialView, all_trials: Trials) -> float:
    """Seconds of the slowest unit that a trial of the same strategy has had, 0 where none has had any."""
    return max(other.slowest_s for other in all_trials.all() if other.strategy == view.strategy)


def _process(trial: Trial) -> str:
    """Ray's name of a trial's worker."""
    name: str = trial.temporary_state.ray_actor._actor_id.hex()
    return name


def _moved(node_id: str) -> Failure:
    return Failure(f"node {node_id[:SHOWN]} is about to go", FailureKind.MOVED)
