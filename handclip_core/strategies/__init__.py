"""Strategies: one short file each. A new one is a file, an entry in ALL, and a function in the search spaces."""

from typing import Annotated, get_args

from pydantic import Field

from handclip_core.strategies.adapters import Adapters
from handclip_core.strategies.base import Strategy
from handclip_core.strategies.full import Full
from handclip_core.strategies.linear_probe import LinearProbe
from handclip_core.strategies.sequential_ewc import SequentialEWC
from handclip_core.strategies.zero_shot import ZeroShot

AnyStrategy = Annotated[ZeroShot | LinearProbe | Full | SequentialEWC | Adapters, Field(discriminator="name")]
"""Any strategy's settings, told apart by ``name``."""

ALL: tuple[type[Strategy], ...] = get_args(get_args(AnyStrategy)[0])
"""Every strategy, in the order of tables."""

__all__ = ["ALL", "Adapters", "AnyStrategy", "Full", "LinearProbe", "SequentialEWC", "Strategy", "ZeroShot"]
