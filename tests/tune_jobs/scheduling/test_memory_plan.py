"""Room for trials, counted in bytes."""

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from tune_jobs.scheduling.limits import GIB
from tune_jobs.scheduling.memory_plan import largest_by_arm, told, trials_in
from tune_jobs.state.trial import TrialView


def view(number: int, strategy: str, gib: int) -> TrialView:
    return TrialView(number, strategy, {}, Experiment(strategy=ZeroShot()), memory=gib * GIB)


def test_the_largest_of_each_arm_is_what_its_trials_may_come_to() -> None:
    views = [view(0, "full", 3), view(1, "full", 2), view(2, "lora", 0), view(3, "adapters", 1)]
    largest = largest_by_arm(views)
    assert largest == {"full": 3 * GIB, "adapters": GIB}
    assert trials_in(10 * GIB, [], largest) == 3
    assert trials_in(10 * GIB, [views[3]], largest) == 4, "9 GiB are left for three of the largest"
    assert trials_in(10 * GIB, views[2:], largest) == 4, "the one that was never seen counts as the largest"
    assert trials_in(5 * GIB, views[:2], largest) == 1, "no other takes the place of the one that ends first"
    assert trials_in(2 * GIB, [], largest) == 1
    assert told("m1", 3, 10 * GIB, largest).startswith("node m1 runs 3 at a time: a trial of full held 3.0 GiB, and")
