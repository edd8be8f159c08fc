"""Errors as the driver gets them from workers and from Ray."""

import pytest
import torch
from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from handclip_core.engine.objective import DivergedError
from handclip_core.errors import InputError
from tune_jobs.execution.failures import describe_error, kind_of
from tune_jobs.execution.trainable import LostStateError
from tune_jobs.scheduling.retries import FailureKind
from tune_jobs.storage.retry import UnwritableError

LOW = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.2, ID: 77d1) was "
    "3.13GB used / 23.54GB limit (0.13)\nOOM kill reason: Memory usage 3322609664B exceeded threshold of 3213033472B\n"
)
"""As Ray 2.60 puts it, shortened."""


def raised(error: Exception) -> BaseException:
    """An error as the driver gets it from a worker."""
    whole: BaseException = cloudpickle.loads(
        cloudpickle.dumps(RayTaskError("train", "traceback", error).as_instanceof_cause())
    )
    return whole


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised(DivergedError("at step 3")), FailureKind.FATAL),
        (raised(InputError("data.aspects: none")), FailureKind.FATAL),
        (raised(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")), FailureKind.OUT_OF_MEMORY),
        (raised(RuntimeError("CUDA error: out of memory")), FailureKind.OUT_OF_MEMORY),
        (
            raised(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")),
            FailureKind.OUT_OF_MEMORY,
        ),
        (raised(MemoryError()), FailureKind.OUT_OF_MEMORY),
        (OutOfMemoryError("Task was killed due to the node running low on memory."), FailureKind.LOW_MEMORY),
        (RayActorError(error_msg="The actor was killed: the node was running low on memory."), FailureKind.LOW_MEMORY),
        (raised(LostStateError("handclip_final.pth: damaged")), FailureKind.LOST_CHECKPOINT),
        (raised(UnwritableError("/tmp: cannot be written")), FailureKind.NODE),
        (raised(RuntimeError("CUDA error: unspecified launch failure")), FailureKind.TRANSIENT),
        (raised(OSError("Stale file handle")), FailureKind.TRANSIENT),
        (RayActorError(error_msg="The actor died unexpectedly before finishing this task."), FailureKind.TRANSIENT),
    ],
)
def test_errors_are_told_apart_by_what_can_be_done(error: BaseException, kind: FailureKind) -> None:
    assert kind_of(error) is kind


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError(LOW),
        RayActorError(actor_id="8c3930c7", error_msg=LOW),
        RayTaskError("train", "traceback", OutOfMemoryError(LOW)).as_instanceof_cause(),
    ],
    ids=("task", "actor", "another process of the trial"),
)
def test_whichever_way_it_comes_it_is_told_in_one_line(error: BaseException) -> None:
    assert kind_of(error) is FailureKind.LOW_MEMORY
    assert describe_error(error).startswith("node low on memory (3.1 of 23.5 GiB used, 3.0 allowed")


def test_memory_that_a_trial_itself_runs_out_of_is_another_matter() -> None:
    raised = RayTaskError("train", "traceback", RuntimeError("the report was low on memory of details"))
    assert kind_of(raised.as_instanceof_cause()) is FailureKind.TRANSIENT
