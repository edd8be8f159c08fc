"""A loss of the user's own: any class with a method ``build``."""

from typing import Any, Protocol

from pydantic import Field, JsonValue

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.losses.term import Loss
from handclip_core.own_code import DottedPath, imported

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
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{key}.options: {self.use} cannot be made of them: {reason}") from None
        loss = builder.build()
        if not callable(loss):
            raise InputError(f"{key}.use: what {self.use}.build() gives cannot be called")
        return loss
