"""Exponential moving averages of weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from handclip_core.engine.optim import Chosen


class WeightAverage:
    """The average of the trained weights over the steps of a phase; it is what is judged and saved.

    After step n the average moves by 1 - min(decay, (1 + n) / (10 + n)) towards the weights, so that the first steps do
    not weigh for long. It starts at the present weights.
    """

    def __init__(self, chosen: list[Chosen], decay: float) -> None:
        self._decay = decay
        self._parameters: dict[str, nn.Parameter] = {item.name: item.parameter for item in chosen}
        self._other = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._applied = False

    @torch.no_grad()
    def update(self, num_steps: int) -> None:
        """Take in the weights after ``num_steps`` steps of the phase."""
        decay = min(self._decay, (1 + num_steps) / (10 + num_steps))
        averages = list(self._other.values())
        torch._foreach_lerp_(averages, [p.detach() for p in self._parameters.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with its average weights, for as long as the context lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def raw(self) -> dict[str, Tensor]:
        """The weights that training goes on from, by name; the average has their place in the model, or they have."""
        return self._other if self._applied else {name: p.detach() for name, p in self._parameters.items()}

    @torch.no_grad()
    def load_raw(self, saved: Mapping[str, Tensor]) -> None:
        """Take back what ``raw`` gave; the model holds the average."""
        for name, parameter in self._parameters.items():
            self._other[name].copy_(parameter)
            parameter.copy_(saved[name])

    @torch.no_grad()
    def settle(self) -> None:
        """Make the average the model's weights for good."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self._other[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            held = parameter.detach().clone()
            parameter.copy_(self._other[name])
            self._other[name] = held
        self._applied = not self._applied
