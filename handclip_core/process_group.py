"""Several processes that train one model: their rank, and sums over them.

Every process holds the whole model and goes through the same batches; each encodes its own part of the images, and
what they find is added up. Without ``torch.distributed`` there is one process, and nothing here costs anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ProcessGroup:
    """This process's ``rank`` among ``size``."""

    rank: int
    size: int

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def part(self, n: int) -> slice:
        """The part of n items that is this process's; the parts of all processes cover them without overlap."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place; every process gets it."""
        if not self.alone:
            torch.distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradient of every trained parameter by the sum over all processes.

        One that no process has a gradient for keeps none, so that the optimiser passes it over as with one process.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if self.alone or not trained:
            return
        found = torch.tensor([float(parameter.grad is not None) for parameter in trained], device=trained[0].device)
        for parameter, holders in zip(trained, self.sum(found).tolist(), strict=True):
            if holders:
                gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                parameter.grad = self.sum(gradient)


def process_group() -> ProcessGroup:
    """The processes of this training run, one if ``torch.distributed`` was not set up."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return ProcessGroup(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return ProcessGroup(0, 1)
