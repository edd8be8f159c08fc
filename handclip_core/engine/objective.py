"""The objective of a step: weighted terms plus penalties."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from handclip_core.engine.phase import Penalty
from handclip_core.errors import InputError
from handclip_core.losses.term import Term
from handclip_core.types import Batch, Output

IDENTITY = "identity"
"""What the names of terms on the identity head begin with."""
EXPLODED = 1e6
"""Larger than the weighted terms of any step that learns; penalties, sums over all weights, may be larger."""


class DivergedError(RuntimeError):
    """The loss is no number any more, or has exploded; the message names the phase, the step and every term's value."""


@dataclass(frozen=True)
class Objective:
    """``total`` to differentiate, its share ``from_terms``, and the value of every term and penalty before weighting.

    ``accuracy`` is the share of the batch whose class the identity head names, if a term trains that head. All are
    scalars; ``total`` alone has a graph.
    """

    total: Tensor
    from_terms: Tensor
    parts: dict[str, Tensor]
    accuracy: Tensor | None = None


def objective(
    output: Output, batch: Batch, *, terms: tuple[Term, ...], penalties: tuple[Penalty, ...], model: nn.Module
) -> Objective:
    """The weighted sum of the phase's terms and penalties, scalars.

    Raises InputError for a term that can change nothing, or that is no scalar tensor.
    """
    parts = {term.name: term.loss(output, batch) for term in terms}
    for name, value in parts.items():
        if not isinstance(value, Tensor) or value.dim() > 0:
            found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"strategy.losses: '{name}' gives {found}; a loss is a scalar tensor")
    idle = [name for name, value in parts.items() if not value.requires_grad]
    if idle:
        raise InputError(
            f"strategy.losses: '{idle[0]}' reads nothing that is trained; choose another losses.on or neck, or freeze "
            "less"
        )
    from_terms = sum((term.weight * parts[term.name] for term in terms), output.embedding.new_zeros(()))
    total = from_terms
    for penalty in penalties:
        value = penalty(model)
        parts[type(penalty).__name__.lower()] = value
        total = total + value
    detached = {name: value.detach() for name, value in parts.items()}
    named = any(term.name.startswith(IDENTITY) for term in terms)
    accuracy = (output.logits.argmax(dim=1) == batch.labels).float().mean() if named else None
    return Objective(total=total, from_terms=from_terms.detach(), parts=detached, accuracy=accuracy)


def refuse_divergence(found: Objective, *, phase: str, step: int) -> None:
    """Raise DivergedError if the total is NaN or infinite, or its terms are larger than any that learn."""
    if not (math.isfinite(found.total.item()) and abs(found.from_terms.item()) < EXPLODED):
        values = ", ".join(f"{name} {value.item():g}" for name, value in found.parts.items())
        raise DivergedError(f"the loss diverged in phase '{phase}' at step {step}: {values}")
