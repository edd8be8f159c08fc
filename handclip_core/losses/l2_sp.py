"""L2-SP: all weights resist leaving the pretrained ones, whatever they are good for."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from handclip_core.types import Batch


class L2SP:
    """lambda / 2 * sum_i (theta_i - start_i)^2 over pretrained weights ``start`` (Li 2018, arXiv 1802.01483, eq. 2).

    The control of EWC: the same penalty with the information 1 everywhere and the anchor at the pretrained weights.
    """

    def __init__(self, start: dict[str, Tensor], *, strength: float) -> None:
        self._start = start
        self._strength = strength

    def __call__(self, model: nn.Module) -> Tensor:
        """The penalty, a scalar; zero at the pretrained weights."""
        named = dict(model.named_parameters())
        terms = [(named[name] - start).square().sum() for name, start in self._start.items()]
        return 0.5 * self._strength * torch.stack(terms).sum()

    def consolidate(self, model: nn.Module, batches: Iterable[Batch]) -> None:
        """Nothing: the anchor does not move."""

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: a run that goes on starts from the same pretrained weights."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing is needed."""
