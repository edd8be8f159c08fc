"""Whether a cluster answers that is to be joined, and what ended an earlier driver there with its Ray job."""

import socket

from ray._private.state import state
from ray.exceptions import AuthenticationError

from handclip_core.errors import InputError

ANSWER_S = 10.0
"""Seconds within which a cluster has to take a connection."""
SUPERVISOR = "_ray_internal_job_actor_{}"
"""What Ray calls the actor that starts a job's driver, and without which that is killed within a second or two."""

LOST = "SYSTEM_ERROR"
"""How Ray says of a process that it did not end by itself."""


def refuse_silence(address: str) -> None:
    """Raise InputError if nothing takes a connection at ``address``, where Ray would go on asking for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():  # "auto" or "local", which Ray knows
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        fault = getattr(error, "strerror", None) or str(error)
        raise InputError(f"RAY_ADDRESS={address}: nothing answers there ({fault}); is the cluster up?") from None


def not_joined(address: str, error: Exception) -> InputError:
    """What is said of a cluster that answers, but does not take this driver."""
    if isinstance(error, AuthenticationError):
        return InputError(f"RAY_ADDRESS={address}: wants a token; put the cluster's into RAY_AUTH_TOKEN")
    reason = " ".join(str(error).split())
    mend = "is it up, and are RAY_AUTH_MODE and RAY_AUTH_TOKEN its own?"
    return InputError(f"RAY_ADDRESS={address}: no cluster answers ({reason}); {mend}")


def why_ended(submission: str) -> str:
    """What Ray says of it if a job's supervisor was lost; empty if it ended by itself, or is not known here."""
    for actor in state.actor_table(None, None, "DEAD").values():
        if actor["Name"] == SUPERVISOR.format(submission):
            cause = actor["DeathCause"]
            known = cause.WhichOneof("context")
            text = "" if known is None else str(getattr(getattr(cause, known), "error_message", ""))
            return text if known == "oom_context" or LOST in text else ""
    return ""
