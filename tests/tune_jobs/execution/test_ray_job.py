"""The driver as a Ray job, and what ended the one before it."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.tune_jobs.scheduling.test_low_memory import TOLD
from tune_jobs.execution import ray_job as submission
from tune_jobs.execution.ray_job import why_ended


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
