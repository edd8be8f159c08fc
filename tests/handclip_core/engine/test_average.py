import torch
from torch import nn

from handclip_core.engine.average import WeightAverage, averaged
from handclip_core.engine.optim import choose
from handclip_core.engine.phase import Train


def linear(decay: float) -> tuple[nn.Linear, WeightAverage]:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 0.0)
    return layer, WeightAverage({"weight": layer.weight}, decay)


def test_the_average_follows_its_recursion() -> None:
    layer, average = linear(0.5)
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
    layer, average = linear(0.9)
    nn.init.constant_(layer.weight, 4.0)
    average.update(1)
    with average.applied():
        evaluated, raw = layer.weight.item(), {name: value.clone() for name, value in average.raw().items()}
    other, restored = linear(0.9)
    nn.init.constant_(other.weight, evaluated)
    restored.load_raw(raw)
    assert other.weight.item() == 4.0
    for layer_, average_ in ((layer, average), (other, restored)):
        nn.init.constant_(layer_.weight, 6.0)
        average_.update(2)
        average_.settle()
    assert torch.equal(layer.weight, other.weight)


def test_statistics_of_batch_norms_are_averaged_with_the_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, momentum=1.0))
    weights = averaged(model, choose(model, (Train("0"),)))
    assert set(weights) == {"0.weight", "0.bias", "1.running_mean", "1.running_var"}
    average = WeightAverage(weights, 0.5)
    mean = torch.zeros(2)
    for step in range(1, 8):
        shown = model[0](torch.randn(5, 2, generator=torch.Generator().manual_seed(step)))
        model[1](shown)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * shown.detach().mean(dim=0)
    with average.applied():
        torch.testing.assert_close(model.get_buffer("1.running_mean"), mean)
