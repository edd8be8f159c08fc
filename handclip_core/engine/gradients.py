"""The gradients of one step: at once, in parts that fit into memory, or shared among several processes.

Losses look at a whole batch: a triplet or a batch norm in the neck needs all of its images. So only the image tower
works in parts. It encodes every part without a graph; neck, head and losses see the whole batch and give the gradient
of every encoded image; and each part is encoded again to carry its gradients into the tower's weights (gradient
caching, Gao 2021, arXiv 2101.06983). The sums are those of the undivided batch, at the price of one more forward pass.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from handclip_core.devices import seed_generator
from handclip_core.engine.objective import Objective, objective
from handclip_core.engine.phase import Phase
from handclip_core.engine.precision import Precision, autocast
from handclip_core.models.hand_model import HandModel
from handclip_core.process_group import ProcessGroup
from handclip_core.types import Batch, Encoded


def backward(
    model: HandModel,
    batch: Batch,
    phase: Phase,
    *,
    micro_batch: int | None,
    group: ProcessGroup,
    seed: int,
    precision: Precision = Precision.FLOAT32,
) -> Objective:
    """Add the gradients of the phase's objective on ``batch`` to the model's weights.

    ``micro_batch`` is the largest number of images that the tower encodes at a time; ``seed`` that of the step. Towers
    compute in ``precision``; a head alone on encoded images in float32, as there is nothing to be gained.
    """
    whole, encoded = micro_batch is None or len(batch.labels) <= micro_batch, isinstance(batch.inputs, Encoded)
    if encoded or (whole and group.alone):
        idle = encoded and not model.has_text_tower
        with autocast(batch.labels.device, Precision.FLOAT32 if idle else precision):
            output = model(batch)
        found = objective(output, batch, terms=phase.terms, penalties=phase.penalties, model=model)
        found.total.backward()
        _agree(model, group)
        return found
    parts = _parts(group.part(len(batch.labels)), micro_batch)
    return _in_parts(model, batch, phase, parts=parts, group=group, seed=seed, precision=precision)


def _in_parts(
    model: HandModel,
    batch: Batch,
    phase: Phase,
    *,
    parts: list[slice],
    group: ProcessGroup,
    seed: int,
    precision: Precision,
) -> Objective:
    def encode(part: slice) -> Encoded:
        """A part as the tower sees it; the seed makes the second pass drop what the first has dropped."""
        seed_generator(_seed(seed, part), batch.labels.device)
        shown = batch.part(part)
        with autocast(batch.labels.device, precision):
            return model.forward_trunk(shown.inputs, shown.aspects)

    encoded = _encoded(model, batch, parts, group, encode)
    seed_generator(seed, batch.labels.device)  # what stands on the tower drops the same in every process
    with autocast(batch.labels.device, precision):
        output = model.forward_head(encoded, batch)
    found = objective(output, batch, terms=phase.terms, penalties=phase.penalties, model=model)
    found.total.backward()
    _agree(model, group)
    beyond_the_tower = {parameter: parameter.grad for parameter in model.parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    for part in parts:
        again = encode(part)
        for found_again, whole in zip(again.tensors(), encoded.tensors(), strict=True):
            if found_again is not None and whole is not None:
                _carry(found_again, whole.grad, part)
    group.sum_gradients(model.parameters())
    for parameter, gradient in beyond_the_tower.items():
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return found


def _encoded(
    model: HandModel, batch: Batch, parts: list[slice], group: ProcessGroup, encode: Callable[[slice], Encoded]
) -> Encoded:
    """The whole batch as the tower sees it, cut off from the graph: leaves [B, ...] that require gradients."""
    size, device = len(batch.labels), batch.labels.device
    dtype = next(model.parameters()).dtype

    def empty(width: int) -> Tensor:
        return torch.zeros(size, width, device=device, dtype=dtype)

    read = model.readout
    whole = Encoded(empty(model.architecture.width), empty(model.architecture.dim), empty(read.width) if read else None)
    with torch.no_grad():
        for part in parts:
            found = encode(part)
            for into, one in zip(whole.tensors(), found.tensors(), strict=True):
                if into is not None and one is not None:
                    into[part] = one.to(dtype)
    return whole.map(lambda tensor: group.sum(tensor).requires_grad_())


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
