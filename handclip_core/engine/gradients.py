"""The gradients of one step: at once, in parts that fit into memory, or shared among several processes.

Losses look at a whole batch: a triplet or a batch norm in the neck needs all of its images. So only the image tower
works in parts. It encodes every part without a graph; neck, head and losses see the whole batch and give the gradient
of every encoded image; and each part is encoded again to carry its gradients into the tower's weights (gradient
caching, Gao 2021, arXiv 2101.06983). The sums are those of the undivided batch, at the price of one more forward pass.
"""

import numpy as np
import torch
from torch import Tensor, nn

from handclip_core.engine.objective import Objective, objective
from handclip_core.engine.phase import Phase
from handclip_core.engine.precision import autocast
from handclip_core.models.hand_model import HandModel
from handclip_core.process_group import ProcessGroup
from handclip_core.types import Batch, Encoded


def backward(
    model: HandModel, batch: Batch, phase: Phase, *, micro_batch: int | None, group: ProcessGroup, seed: int
) -> Objective:
    """Add the gradients of the phase's objective on ``batch`` to the model's weights.

    ``micro_batch`` is the largest number of images that the tower encodes at a time; ``seed`` that of the step.
    """
    whole = micro_batch is None or len(batch.labels) <= micro_batch
    if isinstance(batch.inputs, Encoded) or (whole and group.alone):
        with autocast(batch.labels.device):
            output = model(batch)
        found = objective(output, batch, terms=phase.terms, penalties=phase.penalties, model=model)
        found.total.backward()
        _agree(model, group)
        return found
    parts = _parts(group.part(len(batch.labels)), micro_batch)
    return _in_parts(model, batch, phase, parts=parts, group=group, seed=seed)


def _in_parts(
    model: HandModel, batch: Batch, phase: Phase, *, parts: list[slice], group: ProcessGroup, seed: int
) -> Objective:
    encoded = _encoded(model, batch, parts, group, seed)
    torch.manual_seed(seed)  # what stands on the tower drops the same in every process
    with autocast(batch.labels.device):
        output = model.forward_head(encoded, batch)
    found = objective(output, batch, terms=phase.terms, penalties=phase.penalties, model=model)
    found.total.backward()
    _agree(model, group)
    beyond_the_tower = {parameter: parameter.grad for parameter in model.parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    for part in parts:
        again = _encode(model, batch.part(part), _seed(seed, part))
        for found_again, whole in zip(again.tensors(), encoded.tensors(), strict=True):
            if found_again is not None and whole is not None:
                _carry(found_again, whole.grad, part)
    group.sum_gradients(model.parameters())
    for parameter, gradient in beyond_the_tower.items():
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return found


def _encoded(model: HandModel, batch: Batch, parts: list[slice], group: ProcessGroup, seed: int) -> Encoded:
    """The whole batch as the tower sees it, cut off from the graph: leaves [B, ...] that require gradients."""
    size, device = len(batch.labels), batch.labels.device
    dtype = next(model.parameters()).dtype

    def empty(width: int) -> Tensor:
        return torch.zeros(size, width, device=device, dtype=dtype)

    read = model.readout
    whole = Encoded(empty(model.architecture.width), empty(model.architecture.dim), empty(read.width) if read else None)
    with torch.no_grad():
        for part in parts:
            found = _encode(model, batch.part(part), _seed(seed, part))
            for into, one in zip(whole.tensors(), found.tensors(), strict=True):
                if into is not None and one is not None:
                    into[part] = one.to(dtype)
    return whole.map(lambda tensor: group.sum(tensor).requires_grad_())


def _encode(model: HandModel, batch: Batch, seed: int) -> Encoded:
    """A part as the tower sees it; the seed makes the second pass drop what the first has dropped."""
    torch.manual_seed(seed)
    with autocast(batch.labels.device):
        return model.forward_trunk(batch.inputs, batch.aspects)


def _carry(encoded: Tensor, gradient: Tensor | None, part: slice) -> None:
    """Carry the gradient of encoded images into the tower's weights, if anything in it is trained."""
    if gradient is not None and encoded.requires_grad:
        encoded.backward(gradient[part].to(encoded.dtype), retain_graph=True)


def _agree(model: nn.Module, group: ProcessGroup) -> None:
    """Give all processes the same gradients to the last bit; they computed the same, but kernels may round anew."""
    if group.alone:
        return
    group.sum_gradients(model.parameters())
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= group.size


def _parts(whole: slice, micro_batch: int | None) -> list[slice]:
    size = micro_batch or max(1, whole.stop - whole.start)
    return [slice(start, min(start + size, whole.stop)) for start in range(whole.start, whole.stop, size)]


def _seed(seed: int, part: slice) -> int:
    return int(np.random.SeedSequence([seed, part.start]).generate_state(1, np.uint64)[0] >> 1)
