"""What of Ray Train's inside is changed or read, one thing each with its reason. Seen with Ray 2.60.0."""

from typing import Any

from ray import PlacementGroupID
from ray._private.state import state
from ray.core.generated import gcs_pb2
from ray.train import ControllerError, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from ray.util.placement_group import PlacementGroup, remove_placement_group

CONNECTION_LOST = ("connection closed", "connection reset", "broken pipe")
"""How gloo and NCCL say that another worker is gone."""


class QuietTorchTrainer(TorchTrainer):  # type: ignore[misc]
    """Ray's own without two processes a run.

    The cleaner of placement groups asks the dashboard whether the run's controller lives: without a dashboard, or with
    a second Ray instance on the host, it never learns, stays for ever, and so do the run's resources;
    ``remove_abandoned_groups`` does its work. The manager of Ray's data sets has none to manage here.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [one for one in callbacks if not isinstance(one, PlacementGroupCleanerCallback | DatasetsCallback)]


def remove_abandoned_groups() -> int:
    """Remove the placement groups whose creator, an actor, is dead: those of Train runs that were ended; their number.

    Ray itself removes them when the job ends. Its public table of placement groups does not name the creator.
    """
    found = 0
    for packed in state._connect_and_get_accessor().get_placement_group_table():
        group = gcs_pb2.PlacementGroupTableData.FromString(packed)
        # The creator of a group that no actor made counts as dead from the start.
        by_actor = group.creator_actor_id.strip(b"\xff") != b""
        if by_actor and group.creator_actor_dead and group.state != gcs_pb2.PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
            found += 1
    return found


def remove_group(group: str) -> None:
    """Remove the placement group with that number, if it is there, and end the workers in it."""
    remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))


def cause_of(error: TrainingFailedError) -> BaseException:
    """What a worker or the controller raised; of several workers, one that did not merely miss another."""
    if isinstance(error, ControllerError):
        return _inner(error.controller_failure)
    if not isinstance(error, WorkerGroupError) or not error.worker_failures:
        same: BaseException = error
        return same
    causes = [_inner(failure) for _, failure in sorted(error.worker_failures.items())]
    return next((cause for cause in causes if not _missed_another(cause)), causes[0])


def _inner(error: BaseException) -> BaseException:
    if isinstance(error, WorkerHealthCheckFailedError):
        error = error.health_check_failure
    elif isinstance(error, UserExceptionWithTraceback):
        error = error._base_exc
    return error


def _missed_another(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in CONNECTION_LOST)
