"""Exponential moving averages of weights."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from handclip_core.engine.optim import Chosen

STATISTICS = (".running_mean", ".running_var")


def averaged(model: nn.Module, chosen: Iterable[Chosen]) -> dict[str, Tensor]:
    """What moves while ``chosen`` parameters train, by name: they, and running statistics of batch normalisation."""
    statistics = {name: value for name, value in model.named_buffers() if name.endswith(STATISTICS)}
    return {item.name: item.parameter for item in chosen} | statistics


class WeightAverage:
    """The average of weights over the steps of a phase; it is what is evaluated and saved.

    After step n the average moves by 1 - min(decay, (1 + n) / (10 + n)) towards the weights, so that the first steps do
    not weigh for long. It starts at the present weights.
    """

    def __init__(self, weights: dict[str, Tensor], decay: float) -> None:
        """``weights`` by name: tensors of a model, which change in place."""
        self._decay = decay
        self._weights = {name: value.detach() for name, value in weights.items()}
        self._other = {name: value.clone() for name, value in self._weights.items()}
        self._applied = False

    @torch.no_grad()
    def update(self, num_steps: int) -> None:
        """Take in the weights after ``num_steps`` steps of the phase."""
        decay = min(self._decay, (1 + num_steps) / (10 + num_steps))
        averages = list(self._other.values())
        torch._foreach_lerp_(averages, list(self._weights.values()), 1 - decay)

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
        return self._other if self._applied else dict(self._weights)

    @torch.no_grad()
    def load_raw(self, saved: Mapping[str, Tensor]) -> None:
        """Take back what ``raw`` gave; the model holds the average."""
        for name, value in self._weights.items():
            self._other[name].copy_(value)
            value.copy_(saved[name])

    @torch.no_grad()
    def settle(self) -> None:
        """Make the average the model's weights for good."""
        for name, value in self._weights.items():
            value.copy_(self._other[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._weights.items():
            held = value.clone()
            value.copy_(self._other[name])
            self._other[name] = held
        self._applied = not self._applied
