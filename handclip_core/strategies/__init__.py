"""Strategies: a short file each. A new one is a file, a line in AnyStrategy, and a function in the search spaces."""

from collections.abc import Sequence
from typing import Annotated, get_args

from pydantic import Field

from handclip_core.strategies.adapters import Adapters
from handclip_core.strategies.aspect_specific import AspectSpecific
from handclip_core.strategies.base import Strategy
from handclip_core.strategies.clip_reid import ClipReid
from handclip_core.strategies.cross_view import CrossView
from handclip_core.strategies.curriculum import Curriculum
from handclip_core.strategies.dual.clip_lora import ClipLora
from handclip_core.strategies.dual.prolip import ProLip
from handclip_core.strategies.dual.two_tower import TwoTower
from handclip_core.strategies.full import Full
from handclip_core.strategies.joint import Joint
from handclip_core.strategies.linear_probe import LinearProbe
from handclip_core.strategies.lora import Lora
from handclip_core.strategies.multi_branch import MultiBranch
from handclip_core.strategies.sequential import Sequential
from handclip_core.strategies.sequential_ewc import SequentialEWC
from handclip_core.strategies.whitening import Whitening
from handclip_core.strategies.zero_shot import ZeroShot
from handclip_core.tasks.base import Task

AnyStrategy = Annotated[
    ZeroShot
    | Whitening
    | LinearProbe
    | Full
    | Sequential
    | SequentialEWC
    | Joint
    | CrossView
    | Curriculum
    | MultiBranch
    | AspectSpecific
    | Adapters
    | Lora
    | ClipReid
    | TwoTower
    | ClipLora
    | ProLip,
    Field(discriminator="name"),
]  # fmt: skip
"""Any strategy's settings, told apart by ``name``."""

ALL: tuple[type[Strategy], ...] = get_args(get_args(AnyStrategy)[0])
"""Every strategy, in the order of tables."""

UNTRAINED: tuple[str, ...] = tuple(kind.model_fields["name"].default for kind in ALL if not kind.trains)
"""Names of the strategies to which budget and seed make no difference."""


def serving(task: Task) -> tuple[str, ...]:
    """Names of the strategies that serve ``task``, in the order of tables."""
    return tuple(kind.model_fields["name"].default for kind in ALL if isinstance(task, kind.tasks))


def refusal(strategy: type[Strategy], task: Task, *, choices: Sequence[str]) -> str | None:
    """Why ``strategy`` does not serve ``task``, and ``choices`` in its place, in a line; None if it does."""
    if isinstance(task, strategy.tasks):
        return None
    name = strategy.model_fields["name"].default
    why = f"; {name} {strategy.because}" if strategy.because else ""
    return f"{name} does not serve the task {task.name}; choose from {', '.join(choices)}{why}"


def refuse_other_tasks(strategy: type[Strategy], task: Task) -> None:
    """Raise ValueError if ``strategy`` does not serve ``task``."""
    reason = refusal(strategy, task, choices=serving(task))
    if reason:
        raise ValueError(f"strategy: {reason}")


__all__ = [
    "ALL",
    "UNTRAINED",
    "Adapters",
    "AnyStrategy",
    "AspectSpecific",
    "ClipLora",
    "ClipReid",
    "CrossView",
    "Curriculum",
    "Full",
    "Joint",
    "LinearProbe",
    "Lora",
    "MultiBranch",
    "ProLip",
    "Sequential",
    "SequentialEWC",
    "Strategy",
    "TwoTower",
    "Whitening",
    "ZeroShot",
    "refusal",
    "refuse_other_tasks",
    "serving",
]
