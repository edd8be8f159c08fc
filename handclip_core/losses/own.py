"""A loss of the user's own: any class with a method ``build``."""

from dataclasses import replace
from typing import Any, Protocol

from pydantic import Field, JsonValue
from torch import Tensor, nn

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.losses.numerics import at_least_float32, without_autocast
from handclip_core.losses.term import Loss
from handclip_core.own_code import DottedPath, imported, one_line
from handclip_core.types import Batch, Output

NAME = "own"


class BuildsLoss(Protocol):
    """What the class makes of its options."""

    def build(self) -> Loss:
        """The loss: from an ``Output`` and its ``Batch`` to a scalar; a ``torch.nn.Module`` if it keeps buffers."""
        ...


class OwnLoss(Config):
    """A loss from a package outside this one, whose code is run."""

    use: DottedPath
    """Where Python finds the class, as in ``my_losses.Focal``; what it is made with are ``options``, and its method
    ``build()`` gives the loss."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the class."""
    weight: float = Field(1.0, gt=0, le=1000)
    """Weight of the loss."""

    def build(self, *, key: str) -> Loss:
        """The loss; raises InputError, which names the settings' ``key``, if the class is missing or gives none."""
        kind = imported(self.use, key=f"{key}.use")
        if not isinstance(kind, type) or not callable(getattr(kind, "build", None)):
            raise InputError(f"{key}.use: {self.use} is no class with a method 'build'")
        made: Any = kind
        try:
            builder: BuildsLoss = made(**self.options)
        except Exception as error:
            # Whatever the user's class raises, here and below, it is theirs to mend.
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise InputError(f"{key}.options: {self.use} cannot be made of them: {reason}") from None
        try:
            loss = builder.build()
        except Exception as error:
            raise InputError(f"{key}.use: {self.use}.build(): {type(error).__name__}: {one_line(error)}") from None
        if not callable(loss):
            raise InputError(f"{key}.use: what {self.use}.build() gives cannot be called")
        return InFloat32(loss)


class InFloat32(nn.Module):
    """``loss`` of outputs in float32, whatever the precision of the model; its buffers, if any, are kept."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """What the loss makes of them: a scalar."""
        with without_autocast(output.embedding):
            return self.loss(_in_float32(output), batch)


def _in_float32(output: Output) -> Output:
    texts, matching, aspects = output.texts, output.matching, output.aspect_logits
    if texts is not None:
        texts = replace(texts, embedding=at_least_float32(texts.embedding))
    if matching is not None:
        sides = {name: at_least_float32(getattr(matching, name)) for name in ("texts", "scale", "bias")}
        matching = replace(matching, **sides)
    return Output(
        encoded=output.encoded.map(at_least_float32),
        embedding=at_least_float32(output.embedding),
        logits=at_least_float32(output.logits),
        texts=texts,
        aspect_logits=None if aspects is None else at_least_float32(aspects),
        matching=matching,
    )
