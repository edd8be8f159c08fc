import pytest
import torch

from handclip_core.models.heads import CosineHead, class_vectors


def test_cosines_are_those_of_every_pair() -> None:
    head = CosineHead(4, 3)
    vectors = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    found = head(vectors)
    for i, vector in enumerate(vectors.tolist()):
        for k, weight in enumerate(head.weight.tolist()):
            dot = sum(a * b for a, b in zip(vector, weight, strict=True))
            norms = (sum(a * a for a in vector) * sum(b * b for b in weight)) ** 0.5
            assert found[i, k].item() == pytest.approx(dot / norms, abs=1e-5)


def test_lengths_do_not_matter() -> None:
    head = CosineHead(4, 3)
    vectors = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    before = head(vectors)
    head.weight.data *= torch.tensor([[0.1], [1.0], [70.0]])
    torch.testing.assert_close(head(300 * vectors), before)


def test_cosines_are_float32_under_autocast() -> None:
    head = CosineHead(64, 3)
    vectors = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(vectors)
        rounded = head(vectors.bfloat16())
    assert torch.equal(found, head(vectors))
    assert rounded.dtype == torch.float32


def test_its_weights_are_one_parameter_of_the_classes() -> None:
    assert {name: tuple(p.shape) for name, p in CosineHead(8, 3).named_parameters()} == {"weight": (3, 8)}


def test_a_class_is_the_mean_of_its_unit_vectors_at_unit_length() -> None:
    texts = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    found = class_vectors(texts.bfloat16(), 2)
    assert found.dtype == torch.float32
    for which, own in enumerate((texts[:3], texts[3:])):
        total = [0.0] * 4
        for text in own.bfloat16().float().tolist():
            length = sum(value * value for value in text) ** 0.5
            total = [one + value / length for one, value in zip(total, text, strict=True)]
        length = sum(value * value for value in total) ** 0.5
        assert found[which].tolist() == pytest.approx([one / length for one in total], abs=1e-6)
