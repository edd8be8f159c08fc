import torch
from torch import nn

from handclip_core.engine.average import WeightAverage
from handclip_core.engine.optim import Chosen
from handclip_core.engine.phase import Train


def averaged(decay: float) -> tuple[nn.Linear, WeightAverage]:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 0.0)
    chosen = [Chosen("weight", layer.get_parameter("weight"), Train("weight"))]
    return layer, WeightAverage(chosen, decay)


def test_the_average_follows_its_recursion() -> None:
    layer, average = averaged(0.5)
    expected = 0.0
    for step in range(1, 12):
        nn.init.constant_(layer.weight, float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        torch.testing.assert_close(layer.weight.item(), expected)
        assert average.raw()["weight"].item() == 11.0
    assert layer.weight.item() == 11.0
    average.settle()
    torch.testing.assert_close(layer.weight.item(), expected)


def test_saved_weights_go_on_from_where_they_were() -> None:
    layer, average = averaged(0.9)
    nn.init.constant_(layer.weight, 4.0)
    average.update(1)
    with average.applied():
        judged, raw = layer.weight.item(), {name: value.clone() for name, value in average.raw().items()}
    other, restored = averaged(0.9)
    nn.init.constant_(other.weight, judged)
    restored.load_raw(raw)
    assert other.weight.item() == 4.0
    for layer_, average_ in ((layer, average), (other, restored)):
        nn.init.constant_(layer_.weight, 6.0)
        average_.update(2)
        average_.settle()
    assert torch.equal(layer.weight, other.weight)
