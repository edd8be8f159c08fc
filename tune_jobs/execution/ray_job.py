"""The driver as a Ray job: the name that it was submitted under, and what ended an earlier one with its job."""

import json
import os

from ray._private.state import state

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
SUPERVISOR = "_ray_internal_job_actor_{}"
"""What Ray calls the actor that starts a job's driver, and without which that is killed within a second or two."""

LOST = "SYSTEM_ERROR"
"""How Ray says of a process that it did not end by itself."""


def in_ray_job() -> bool:
    """Whether this process was started by ``ray job submit``."""
    return JOB_CONFIG in os.environ


def submission_id() -> str:
    """The name of the job that this process was submitted as, empty if it was not."""
    metadata = json.loads(os.environ.get(JOB_CONFIG, "{}")).get("metadata") or {}
    return str(metadata.get("job_submission_id", ""))


def why_ended(submission: str) -> str:
    """What Ray says of it if a job's supervisor was lost; empty if it ended by itself, or is not known here."""
    for actor in state.actor_table(None, None, "DEAD").values():
        if actor["Name"] == SUPERVISOR.format(submission):
            cause = actor["DeathCause"]
            known = cause.WhichOneof("context")
            text = "" if known is None else str(getattr(getattr(cause, known), "error_message", ""))
            return text if known == "oom_context" or LOST in text else ""
    return ""
