"""What a run of Ray Train says of its failures, and the places that an ended one leaves."""

import time
from collections.abc import Callable

import pytest
import ray
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table

from handclip_core.engine.objective import DivergedError
from tests.limits import LIMIT_S
from tune_jobs.execution.failures import kind_of
from tune_jobs.execution.train_internals import cause_of, remove_abandoned_groups
from tune_jobs.execution.trainable import LostStateError
from tune_jobs.scheduling.retries import FailureKind

LOST = RuntimeError("[/pytorch/gloo/tcp/pair.cc:547] Connection closed by peer [127.0.1.1]:1234")


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does in time."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def told(error: Exception) -> UserExceptionWithTraceback:
    return UserExceptionWithTraceback(error, "Traceback ...")


@pytest.mark.parametrize(
    ("failures", "kind"),
    [
        ({0: told(DivergedError("at step 3")), 1: told(DivergedError("at step 3"))}, FailureKind.FATAL),
        ({0: told(LOST), 1: told(MemoryError("no"))}, FailureKind.OUT_OF_MEMORY),
        ({1: told(LostStateError("gone"))}, FailureKind.LOST_CHECKPOINT),
        (
            {0: told(LOST), 1: WorkerHealthCheckFailedError("lost", RayActorError(error_msg="died"))},
            FailureKind.TRANSIENT,
        ),
        ({0: told(LOST)}, FailureKind.TRANSIENT),
    ],
)
def test_the_worker_that_failed_tells_why_not_the_one_that_missed_it(
    failures: dict[int, Exception], kind: FailureKind
) -> None:
    cause = cause_of(WorkerGroupError("workers failed", failures))
    assert kind_of(cause) is kind
    assert (cause is LOST) == (list(failures) == [0] and kind is FailureKind.TRANSIENT)


def test_a_failure_of_the_controller_is_its_cause() -> None:
    assert isinstance(cause_of(ControllerError(OSError("away"))), OSError)


@pytest.mark.ray
def test_places_of_a_creator_that_died_are_freed_and_no_others(ray_cluster: None) -> None:
    del ray_cluster

    class Creator:
        def create(self) -> PlacementGroup:
            group = placement_group([{"CPU": 1}])
            ray.get(group.ready())
            return group

    mine, actor = placement_group([{"memory": 1}]), ray.remote(Creator).options(num_cpus=0).remote()
    group = ray.get(actor.create.remote())
    assert remove_abandoned_groups() == 0
    ray.kill(actor)
    assert comes_true(lambda: remove_abandoned_groups() == 1)
    assert comes_true(lambda: placement_group_table(group)["state"] == "REMOVED")
    assert placement_group_table(mine)["state"] != "REMOVED"
    assert remove_abandoned_groups() == 0
    ray.util.remove_placement_group(mine)
