"""What of Ray Tune's inside is changed, one thing each with its reason. Seen with Ray 2.60.0."""

from typing import Any

import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayTaskError


class SurvivingActorManager(RayActorManager):  # type: ignore[misc]
    """Tune's own, but for errors that are neither an actor's nor a task's: they end a trial's attempt, not the sweep.

    Ray has a dozen such errors. ``OutOfMemoryError`` is the common one: a worker was killed since its node was low on
    memory. Tune's manager raises on them, from which ``tune.run`` does not recover, whatever ``max_failures`` is.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        lost = self._lost_worker(tracked_actor_task._tracked_actor, exception)
        super()._actor_task_failed(tracked_actor_task, lost)

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, self._lost_worker(tracked_actor, exception))

    def _lost_worker(self, tracked_actor: Any, exception: Exception) -> Exception:
        """The error as that of the actor, which is ended if it still lives."""
        if not isinstance(exception, RayActorError | RayTaskError):
            actor, _ = self._live_actors_to_ray_actors_resources[tracked_actor]
            ray.kill(actor)
            text = str(exception) or type(exception).__name__
            exception = RayActorError(actor_id=actor._actor_id.hex(), error_msg=text)
        return exception


def survive_lost_workers(wrapped_controller: Any) -> None:
    """Let the controller that a scheduler is handed outlive whatever becomes of its workers; once or more often."""
    # Tune makes its manager itself and takes no other class; this one has the same fields.
    wrapped_controller._tune_controller._actor_manager.__class__ = SurvivingActorManager
