"""Whether a cluster answers that is to be joined, and what ended an earlier driver there with its Ray job."""

import socket

from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._private.state import state
from ray._raylet import InnerGcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RpcError

from handclip_core.errors import InputError

ANSWER_S = 8.0
"""Seconds within which a cluster has to take a connection, and then to answer on it."""
SUPERVISOR = "_ray_internal_job_actor_{}"
"""What Ray calls the actor that starts a job's driver, and without which that is killed within a second or two."""

LOST = "SYSTEM_ERROR"
"""How Ray says of a process that it did not end by itself."""


def refuse_silence(address: str) -> None:
    """Raise InputError if no cluster answers this driver at ``address``, where Ray would go on asking for minutes.

    Ray asks twenty times and waits a second after each, whatever the answer was; a refused token is refused at once.
    """
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if not port.isdigit():  # "auto" or "local", which Ray knows
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        fault = getattr(error, "strerror", None) or str(error)
        raise InputError(f"RAY_ADDRESS={address}: nothing answers there ({fault}); is the cluster up?") from None
    if scheme:  # Ray's client, which has a server of its own
        return
    try:
        # Without a token where one is wanted the call below would end this process.
        ensure_token_if_auth_enabled(create_token_if_missing=False)
        InnerGcsClient.standalone(place, cluster_id=None, timeout_ms=int(ANSWER_S * 1000))
    except (AuthenticationError, RpcError) as error:
        raise not_joined(address, error) from None


def not_joined(address: str, error: Exception) -> InputError:
    """What is said of a cluster that answers, but does not take this driver."""
    if isinstance(error, AuthenticationError):
        how = "set RAY_AUTH_MODE=token and put the cluster's own into RAY_AUTH_TOKEN"
        return InputError(f"RAY_ADDRESS={address}: wants a token, and another than this machine may have; {how}")
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
