"""The driver as a Ray job, and what ended the one before it."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.tune_jobs.scheduling.test_low_memory import NODE, TOLD
from tests.tune_jobs.simulated import ROOM
from tune_jobs.execution import ray_job as submission
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.monitor import TrialMonitor
from tune_jobs.execution.ray_job import why_ended
from tune_jobs.lifecycle import run as driver
from tune_jobs.state.trials import Trials


class Cause:
    """The part of Ray's record of a dead actor that is read."""

    def __init__(self, message: str | None, kind: str = "oom_context") -> None:
        self.kind = None if message is None else kind
        setattr(self, kind, SimpleNamespace(error_message=message))

    def WhichOneof(self, _: str) -> str | None:  # noqa: N802 - protobuf's name
        return self.kind


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    actors: list[dict[str, Any]] = [
        {"Name": "", "DeathCause": Cause("another actor")},
        {"Name": "_ray_internal_job_actor_silent", "DeathCause": Cause(None)},
        {"Name": "_ray_internal_job_actor_mine", "DeathCause": Cause(TOLD)},
        {"Name": "_ray_internal_job_actor_killed", "DeathCause": Cause("exit type: SYSTEM_ERROR", "actor_died")},
        {"Name": "_ray_internal_job_actor_over", "DeathCause": Cause("exit type: INTENDED_USER_EXIT", "actor_died")},
    ]
    monkeypatch.setattr(submission, "state", SimpleNamespace(actor_table=lambda *_: dict(enumerate(actors))))


@pytest.mark.usefixtures("dead")
def test_what_ray_says_of_the_supervisors_death_is_found_by_the_jobs_name() -> None:
    assert why_ended("mine") == TOLD
    assert why_ended("silent") == ""
    assert why_ended("killed") == "exit type: SYSTEM_ERROR"
    assert why_ended("over") == "", "it ended by itself, after its driver"
    assert why_ended("unheard-of") == ""


@pytest.mark.usefixtures("dead")
def test_after_a_driver_that_went_with_a_node_low_on_memory_that_node_begins_with_one_trial_fewer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    left: dict[str, int] = {}
    nodes: Any = SimpleNamespace(hold=lambda node_id, leave: left.update({node_id: leave}), places=lambda _: 3)
    monitor = TrialMonitor(Trials(), nodes, 60.0, lambda: 1e9)
    trial_resources = TrialResources(device="cpu", cpus=1, gpus=0.0, concurrent=6, num_nodes=2)
    driver._tell_what_ended("mine", monitor, trial_resources)
    assert left == {NODE: 2}
    assert capsys.readouterr().out == (
        "the driver before this one was ended with its job mine: "
        "node low on memory (3.1 of 23.5 GiB used, 3.0 allowed)\n"
    )
    driver._tell_what_ended("unheard-of", monitor, ROOM)
    assert capsys.readouterr().out == ""
