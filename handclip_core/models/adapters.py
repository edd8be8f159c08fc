"""Bottleneck adapters in a frozen image tower."""

from enum import StrEnum

from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.models.backbone import Backbone

WEIGHT_STD = 0.01


class Place(StrEnum):
    """Where adapters stand: in every block of a transformer after attention, after the MLP, or after both.

    In a convolutional tower ``attention`` means after the last stage, before the pooling, ``mlp`` after the stages
    before it, and ``both`` after all.
    """

    ATTENTION = "attention"
    MLP = "mlp"
    BOTH = "both"


class Bottleneck(nn.Module):
    """x + up(gelu(down(x))) over the last axis of [..., C] (Houlsby 2019, arXiv 1902.00751); starts as the identity."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.normal_(self.down.weight, std=WEIGHT_STD)
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, hidden: Tensor) -> Tensor:
        """A tensor of the shape of ``hidden``."""
        change: Tensor = self.up(F.gelu(self.down(hidden)))
        return hidden + change


class MapBottleneck(nn.Module):
    """The same over the channels of a [B, C, H, W] map, as two 1 x 1 convolutions."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.bottleneck = Bottleneck(channels, bottleneck)

    def forward(self, hidden: Tensor) -> Tensor:
        """A tensor of the shape of ``hidden``."""
        changed: Tensor = self.bottleneck(hidden.permute(0, 2, 3, 1))
        return changed.permute(0, 3, 1, 2)


def adapter_prefixes(backbone: Backbone) -> tuple[str, ...]:
    """The parameter prefixes, within ``backbone``, of the adapters that ``insert_adapters`` put there."""
    return tuple(name for name, module in backbone.named_modules() if isinstance(module, Bottleneck))


def insert_adapters(backbone: Backbone, *, bottleneck: int, place: Place) -> None:
    """Put adapters of width ``bottleneck`` into ``backbone``.

    In a transformer they act on the branch of attention or MLP before it joins the residual stream; in a convolutional
    tower on the output of whole stages.
    """
    stages = backbone.stages()
    chosen = {Place.ATTENTION: stages[-1:], Place.MLP: stages[:-1], Place.BOTH: stages}
    for stage in chosen[place]:
        stage.row.append(MapBottleneck(stage.channels, bottleneck))
    for found in backbone.branches():
        names = {Place.ATTENTION: (found.attention,), Place.MLP: (found.mlp,), Place.BOTH: (found.attention, found.mlp)}
        for name in names[place]:
            adapter = Bottleneck(found.channels, bottleneck)
            setattr(found.block, name, nn.Sequential(found.block.get_submodule(name), adapter))
