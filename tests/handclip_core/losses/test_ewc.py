"""The Fisher information has a closed form for softmax regression: E_x sum_y p_y ((1[k = y] - p_k) x_j)^2."""

import math

import pytest
import torch
from torch import Tensor, nn

from handclip_core.losses.ewc import EWC, Remember, fisher_information, normalised
from handclip_core.losses.l2_sp import L2SP
from handclip_core.models.heads import CosineHead
from handclip_core.types import Batch, Encoded, Output


class Softmax(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 4, bias=False)

    def forward(self, batch: Batch) -> Output:
        assert isinstance(batch.inputs, Tensor)
        logits = self.backbone(batch.inputs)
        return Output(Encoded(batch.inputs, batch.inputs), logits, logits)


def model_and_batch() -> tuple[Softmax, Batch]:
    generator = torch.Generator().manual_seed(0)
    model = Softmax()
    model.backbone.weight.data = torch.randn(4, 3, generator=generator)
    return model, Batch(torch.randn(7, 3, generator=generator), *(torch.zeros(7, dtype=torch.int64),) * 3)


def fisher_by_hand(model: Softmax, inputs: Tensor) -> Tensor:
    total = torch.zeros(4, 3, dtype=torch.float64)
    for x in inputs.double():
        p = (model.backbone.weight.double() @ x).softmax(0)
        for y in range(4):
            for k in range(4):
                for j in range(3):
                    total[k, j] += p[y] * ((float(k == y) - p[k]) * x[j]) ** 2
    return total / len(inputs)


def consolidated(strength: float, samples: int = 7) -> tuple[EWC, Softmax, Batch]:
    model, batch = model_and_batch()
    penalty = EWC(strength=strength, num_samples=samples, prefixes=("backbone.",))
    penalty.consolidate(model, [batch])
    return penalty, model, batch


def test_the_fisher_information_is_exact() -> None:
    model, batch = model_and_batch()
    samples = [batch.item(i) for i in range(7)]
    found = fisher_information(model, samples, dict(model.named_parameters()))["backbone.weight"]
    assert isinstance(batch.inputs, Tensor)
    torch.testing.assert_close(found.double(), fisher_by_hand(model, batch.inputs), rtol=1e-5, atol=1e-7)


def test_the_fisher_information_of_a_double_model_is_double() -> None:
    model, batch = model_and_batch()
    assert isinstance(batch.inputs, Tensor)
    inputs = batch.inputs.double()
    samples = [Batch(inputs[i : i + 1], *(torch.zeros(1, dtype=torch.int64),) * 3) for i in range(7)]
    found = fisher_information(model.double(), samples, dict(model.named_parameters()))["backbone.weight"]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, fisher_by_hand(model, inputs), rtol=1e-10, atol=1e-12)


def test_random_signs_have_the_exact_information_as_their_mean_and_are_always_the_same() -> None:
    model, batch = model_and_batch()
    named = dict(model.named_parameters())
    samples = [batch.item(i) for i in range(7)]
    exact = fisher_information(model, samples, named)["backbone.weight"]
    few, again = (fisher_information(model, samples, named, num_draws=1)["backbone.weight"] for _ in range(2))
    many = fisher_information(model, samples, named, num_draws=4000)["backbone.weight"]
    assert torch.equal(few, again)
    assert not torch.allclose(few, exact, rtol=0.01)
    torch.testing.assert_close(many, exact, rtol=0.1, atol=1e-3)  # four standard errors of the mean


class Cosines(nn.Module):
    """A linear map before the head of a margin loss."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.backbone = nn.Linear(3, 5, bias=False, dtype=torch.float64)
        self.head = CosineHead(5, 4).double()
        self.backbone.weight.data = torch.randn(5, 3, generator=generator, dtype=torch.float64)
        self.head.weight.data = torch.randn(4, 5, generator=generator, dtype=torch.float64)

    def forward(self, batch: Batch) -> Output:
        assert isinstance(batch.inputs, Tensor)
        vectors = self.backbone(batch.inputs)
        return Output(Encoded(batch.inputs, batch.inputs), vectors, self.head(vectors))


def fisher_of_cosines_by_hand(model: Cosines, inputs: Tensor, scale: float) -> Tensor:
    """d cos_k / d v = (c_k / |c_k| - cos_k v / |v|) / |v| for v = W x; c_k are the head's weights."""
    total = torch.zeros(5, 3, dtype=torch.float64)
    centres = [[c / math.hypot(*row) for c in row] for row in model.head.weight.tolist()]
    for x in inputs.tolist():
        v = [sum(w * xi for w, xi in zip(row, x, strict=True)) for row in model.backbone.weight.tolist()]
        length = math.hypot(*v)
        cosines = [sum(ci * vi for ci, vi in zip(c, v, strict=True)) / length for c in centres]
        exponentials = [math.exp(scale * (cosine - max(cosines))) for cosine in cosines]
        p = [e / math.fsum(exponentials) for e in exponentials]
        for y in range(4):
            for i in range(5):
                slopes = [(centres[k][i] - cosines[k] * v[i] / length) / length for k in range(4)]
                slope = scale * math.fsum((float(k == y) - p[k]) * slopes[k] for k in range(4))
                for j in range(3):
                    total[i, j] += p[y] * (slope * x[j]) ** 2
    return total / len(inputs)


@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_the_fisher_information_before_a_margin_loss_is_that_of_the_scaled_cosines(scale: float) -> None:
    model = Cosines()
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    batch = Batch(inputs, *(torch.zeros(6, dtype=torch.int64),) * 3)
    named = {name: parameter for name, parameter in model.named_parameters() if name.startswith("backbone.")}
    found = fisher_information(model, (batch.item(i) for i in range(6)), named, logit_scale=scale)["backbone.weight"]
    expected = fisher_of_cosines_by_hand(model, inputs, scale)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_penalty_is_zero_at_the_anchor_and_before_any_phase() -> None:
    penalty, model, _ = consolidated(10.0)
    assert penalty(model).item() == 0
    fresh = EWC(strength=10.0, num_samples=1, prefixes=("backbone.",))
    assert fresh(model).item() == 0


def test_the_penalty_is_the_weighted_distance_from_the_anchor() -> None:
    penalty, model, batch = consolidated(10.0)
    assert isinstance(batch.inputs, Tensor)
    fisher = fisher_by_hand(model, batch.inputs)
    shift = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    model.backbone.weight.data += shift
    expected = 0.5 * 10 * (fisher / fisher.mean() * shift.double() ** 2).sum()
    assert penalty(model).item() == pytest.approx(expected.item(), rel=1e-4)


def test_normalised_information_has_mean_one() -> None:
    scaled = normalised({"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([8.0])})
    assert torch.cat(list(scaled.values())).mean().item() == pytest.approx(1.0)
    assert normalised({"a": torch.zeros(2)})["a"].tolist() == [0, 0]


def test_more_strength_keeps_weights_closer_to_the_anchor() -> None:
    def distance(strength: float) -> float:
        penalty, model, batch = consolidated(strength)
        anchor = model.backbone.weight.detach().clone()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        for _ in range(200):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch).logits, batch.labels) + penalty(model)
            loss.backward()
            optimizer.step()
        return float((model.backbone.weight.detach() - anchor).norm())

    distances = [distance(strength) for strength in (0.0, 0.1, 1.0, 10.0)]
    assert distances == sorted(distances, reverse=True)


def test_its_buffers_come_back_from_a_state_dict() -> None:
    penalty, model, _ = consolidated(2.0)
    model.backbone.weight.data += 1
    copy = EWC(strength=2.0, num_samples=1, prefixes=("backbone.",))
    copy.load_state_dict(penalty.state_dict())
    assert copy(model).item() == penalty(model).item() > 0


def test_the_head_is_left_alone() -> None:
    model, batch = model_and_batch()
    penalty = EWC(strength=1.0, num_samples=2, prefixes=("neck.", "backbone."))
    penalty.consolidate(model, [batch])
    assert {key.split("/")[2] for key in penalty.state_dict()} == {"backbone.weight"}


@pytest.mark.parametrize("remember", list(Remember))
def test_two_phases_are_remembered_online_or_separately(remember: Remember) -> None:
    """Online: 0.5 F1 + F2 at the second anchor. Separate: each phase's F at its own anchor."""
    model, batch = model_and_batch()
    penalty = EWC(strength=2.0, decay=0.5, num_samples=7, prefixes=("backbone.",), remember=remember)
    assert isinstance(batch.inputs, Tensor)
    fishers, anchors = [], []
    for _ in range(2):
        model.backbone.weight.data += 0.3
        penalty.consolidate(model, [batch])
        fisher = fisher_by_hand(model, batch.inputs)
        fishers.append(fisher / fisher.mean())
        anchors.append(model.backbone.weight.detach().double().clone())
    model.backbone.weight.data -= 0.7
    now = model.backbone.weight.detach().double()
    online = ((0.5 * fishers[0] + fishers[1]) * (now - anchors[1]) ** 2).sum()
    parts = [(f * (now - anchor) ** 2).sum() for f, anchor in zip(fishers, anchors, strict=True)]
    separate = parts[0] + parts[1]
    expected = online if remember is Remember.ONLINE else separate
    assert penalty(model).item() == pytest.approx(expected.item(), rel=1e-4)
    copy = EWC(strength=2.0, decay=0.5, num_samples=7, prefixes=("backbone.",), remember=remember)
    copy.load_state_dict(penalty.state_dict())
    assert copy(model).item() == penalty(model).item()


def test_on_a_quadratic_loss_the_penalised_optimum_has_a_closed_form() -> None:
    """min A/2 (w - b)^2 + lambda/2 F (w - a)^2 lies at w = (A b + lambda F a) / (A + lambda F), weight by weight."""
    penalty, model, _ = consolidated(3.0)
    state = penalty.state_dict()
    fisher, anchor = (state[f"0/{kind}/backbone.weight"].double() for kind in ("fisher", "anchor"))
    curvature, optimum = torch.linspace(0.5, 2, 12).view(4, 3).double(), torch.ones(4, 3, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(3000):
        optimizer.zero_grad()
        (0.5 * (curvature * (model.backbone.weight - optimum) ** 2).sum() + penalty(model)).backward()
        optimizer.step()
    expected = (curvature * optimum + 3 * fisher * anchor) / (curvature + 3 * fisher)
    torch.testing.assert_close(model.backbone.weight.detach().double(), expected, rtol=1e-3, atol=1e-4)


def test_l2_sp_is_the_distance_from_the_pretrained_weights_whatever_was_consolidated() -> None:
    model, batch = model_and_batch()
    penalty = L2SP({"backbone.weight": model.backbone.weight.detach().clone()}, strength=4.0)
    assert penalty(model).item() == 0
    model.backbone.weight.data += 0.5
    penalty.consolidate(model, [batch])
    assert penalty(model).item() == pytest.approx(0.5 * 4 * 12 * 0.25)
