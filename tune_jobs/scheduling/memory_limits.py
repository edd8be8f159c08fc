"""How many trials each node may run after it was low on memory: one fewer for a while, and a pause if it ran one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tune_jobs.scheduling.low_memory import LowMemory

FEWER_S = 600.0
"""Seconds after which a node may run as many trials as it has places for again."""
TOGETHER_S = 10.0
"""Seconds for which the memory of a worker that was killed may still be missed by those that ran beside it."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0


@dataclass
class _Limit:
    """What a node may run."""

    trials: int
    until: float
    """When the limit ends."""
    killed_at: float
    """When a worker was killed last."""
    waits: int = 0
    """Pauses in a row for others to make room, without a result of a trial there."""
    paused_until: float = 0.0


@dataclass
class MemoryLimits:
    """The nodes that were low on memory lately."""

    clock: Callable[[], float]
    _limits: dict[str, _Limit] = field(default_factory=dict)

    def worker_killed(self, found: LowMemory, *, others: int, since: float, workers: int = 1, rival: bool) -> bool:
        """A trial's worker, asked for at ``since``, was killed beside ``others``; whether the trial had the node alone.

        It had not if processes of others hold much of the node's memory. A trial has so many ``workers``. A node that
        is too small for one trial is paused, longer if a ``rival`` node has places, so that the trial goes there.
        """
        self._drop_old()
        now, last = self.clock(), self._limits.get(found.node)
        # What was killed just before may still have held its memory.
        together = last is not None and since < last.killed_at and now - last.killed_at < TOGETHER_S
        alone = others == 0 and found.num_killed <= workers and not together
        # One fewer than there were: those beside it.
        trials = max(1, others if last is None else min(others, last.trials))
        limit = _Limit(trials, now + FEWER_S, now, 0 if last is None else last.waits)
        if alone:
            limit.waits += found.is_busy_elsewhere
            pause_s = min(FIRST_PAUSE_S * 2.0**limit.waits, LONGEST_PAUSE_S)
            limit.paused_until = now + (LONGEST_PAUSE_S if rival else pause_s)
        if found.node:
            self._limits[found.node] = limit
        return alone and not found.is_busy_elsewhere

    def had_result(self, node: str) -> None:
        """A trial has had a result on ``node``."""
        if node in self._limits:
            self._limits[node].waits = 0

    def reset(self) -> None:
        """Let every node run what it has places for."""
        self._limits.clear()

    def told(self, node: str) -> str:
        """What becomes of ``node``, in words."""
        trials, now = self.allowed().get(node), self.clock()
        if trials is None:
            return ""
        if trials == 0:
            return f"is paused for {self._limits[node].paused_until - now:.0f} s"
        return f"runs {trials} at a time for {FEWER_S / 60:.0f} minutes"

    def allowed(self) -> dict[str, int]:
        """The trials that each such node may run now; 0 while it is paused."""
        self._drop_old()
        now = self.clock()
        return {name: 0 if limit.paused_until > now else limit.trials for name, limit in self._limits.items()}

    def _drop_old(self) -> None:
        now = self.clock()
        self._limits = {name: limit for name, limit in self._limits.items() if limit.until > now}
