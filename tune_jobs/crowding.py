"""How many trials each node may run after it was low on memory: one fewer for a while, and a pause if it ran one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tune_jobs.low_memory import LowMemory

FEWER_S = 600.0
"""Seconds after which a node may run as many trials as it has places for again."""
TOGETHER_S = 10.0
"""Seconds for which the memory of a worker that was killed may still be missed by those that ran beside it."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0


@dataclass
class _Crowded:
    """A node that was low on memory."""

    trials: int
    """Trials that it may run."""
    until: float
    at: float
    """When a worker was killed last."""
    pauses: int = 0
    """In a row for others to make room, without a result of a trial there."""
    paused_until: float = 0.0


@dataclass
class Crowding:
    """The nodes that were low on memory lately."""

    clock: Callable[[], float]
    _nodes: dict[str, _Crowded] = field(default_factory=dict)

    def killed(self, found: LowMemory, *, node: str, others: int, since: float, elsewhere: bool) -> bool:
        """A worker that was asked for at ``since`` was killed on ``node``, beside ``others``; whether it was alone.

        It was not if processes of others hold much of the node's memory. A node that is too small for one is left alone
        for a while, longer if there is room ``elsewhere``.
        """
        self._forget_the_old()
        now, last = self.clock(), self._nodes.get(node)
        together = last is not None and since < last.at and now - last.at < TOGETHER_S
        alone = others == 0 and found.num_killed == 1 and not together
        trials = max(1, others if last is None else min(others, last.trials))
        pauses = 0 if last is None else last.pauses
        crowded = _Crowded(trials, now + FEWER_S, now, pauses)
        if alone:
            crowded.pauses += found.is_busy_elsewhere
            crowded.paused_until = now + (FEWER_S if elsewhere else _pause_s(crowded.pauses))
        if node:
            self._nodes[node] = crowded
        return alone and not found.is_busy_elsewhere

    def eased(self, node: str) -> None:
        """A trial has had a result on ``node``."""
        if node in self._nodes:
            self._nodes[node].pauses = 0

    def forget(self) -> None:
        """Let every node run what it has places for."""
        self._nodes.clear()

    def told(self, node: str) -> str:
        """What becomes of ``node``, in words."""
        trials, now = self.allowed().get(node), self.clock()
        if trials is None:
            return ""
        if trials == 0:
            return f"is left alone for {self._nodes[node].paused_until - now:.0f} s"
        return f"runs {trials} at a time for {FEWER_S / 60:.0f} minutes"

    def allowed(self) -> dict[str, int]:
        """The trials that each such node may run now; 0 while it is left alone."""
        self._forget_the_old()
        now = self.clock()
        return {name: 0 if node.paused_until > now else node.trials for name, node in self._nodes.items()}

    def _forget_the_old(self) -> None:
        now = self.clock()
        self._nodes = {name: node for name, node in self._nodes.items() if node.until > now}


def _pause_s(pauses: int) -> float:
    return min(FIRST_PAUSE_S * 2.0**pauses, LONGEST_PAUSE_S)
