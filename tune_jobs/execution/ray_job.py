"""What ended an earlier driver with its Ray job."""

from ray._private.state import state

SUPERVISOR = "_ray_internal_job_actor_{}"
"""What Ray calls the actor that starts a job's driver, and without which that is killed within a second or two."""

LOST = "SYSTEM_ERROR"
"""How Ray says of a process that it did not end by itself."""


def why_ended(submission: str) -> str:
    """What Ray says of it if a job's supervisor was lost; empty if it ended by itself, or is not known here."""
    for actor in state.actor_table(None, None, "DEAD").values():
        if actor["Name"] == SUPERVISOR.format(submission):
            cause = actor["DeathCause"]
            known = cause.WhichOneof("context")
            text = "" if known is None else str(getattr(getattr(cause, known), "error_message", ""))
            return text if known == "oom_context" or LOST in text else ""
    return ""
