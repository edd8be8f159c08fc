"""How many trials the memory of each node has room for, by what trials were seen to hold."""

from collections.abc import Iterable, Mapping

from tune_jobs.scheduling.limits import GIB
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import by_arm


def largest_by_arm(views: Iterable[TrialView]) -> dict[str, int]:
    """Most bytes that a worker of each arm was seen to hold; arms of which nobody knows are left out."""
    found = {arm: max(view.memory for view in known) for arm, known in by_arm(views).items()}
    return {arm: largest for arm, largest in found.items() if largest}


def trials_in(room: int, running: Iterable[TrialView], largest: Mapping[str, int]) -> int:
    """Trials that a node with ``room`` bytes may run: those ``running`` that fit in, and more while the largest does.

    One at least. A trial of an arm that was never seen counts as the largest; ``largest`` must name an arm.
    """
    most, fit = max(largest.values()), 0
    for size in sorted(largest.get(view.arm, most) for view in running):
        if size > room:
            return max(1, fit)
        room, fit = room - size, fit + 1
    return max(1, fit + room // most)


def told(node: str, trials: int, room: int, largest: Mapping[str, int]) -> str:
    """Such a limit in words."""
    arm = max(largest, key=lambda name: largest[name])
    return (
        f"node {node} runs {trials} at a time: a trial of {arm} held {largest[arm] / GIB:.1f} GiB, and Ray has "
        f"{room / GIB:.1f} GiB of memory for trials there"
    )
