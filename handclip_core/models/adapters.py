"""Bottleneck adapters in a frozen image tower."""

from enum import StrEnum

from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.models.backbone import Backbone

WEIGHT_STD = 0.01


class Place(StrEnum):
    """Where adapters stand: in every block of a transformer after attention, after the MLP, or after both.

    In a ResNet ``attention`` means after the last stage, before the attention pool, ``mlp`` after the stages before it,
    and ``both`` after all four.
    """

    ATTENTION = "attention"
    MLP = "mlp"
    BOTH = "both"


RESNET_STAGES = {
    Place.ATTENTION: ("layer4",),
    Place.MLP: ("layer1", "layer2", "layer3"),
    Place.BOTH: ("layer1", "layer2", "layer3", "layer4"),
}
BRANCHES = {Place.ATTENTION: ("ls_1",), Place.MLP: ("ls_2",), Place.BOTH: ("ls_1", "ls_2")}


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

    In a transformer they act on the branch of attention or MLP before it joins the residual stream; in a ResNet on the
    output of whole stages.
    """
    stages = [module for name, module in backbone.visual.named_children() if name in RESNET_STAGES[place]]
    for stage in stages:
        assert isinstance(stage, nn.Sequential)
        stage.append(MapBottleneck(_width(stage[-1], "bn3"), bottleneck))
    for module in list(backbone.visual.modules()):
        if hasattr(module, "ls_1") and hasattr(module, "ls_2"):
            _into_block(module, bottleneck, place)


def _into_block(block: nn.Module, bottleneck: int, place: Place) -> None:
    width = _width(block, "ln_2")
    for branch in BRANCHES[place]:
        setattr(block, branch, nn.Sequential(block.get_submodule(branch), Bottleneck(width, bottleneck)))


def _width(module: nn.Module, norm: str) -> int:
    """Channels of a module, read off its norm's bias."""
    return module.get_parameter(f"{norm}.bias").numel()
