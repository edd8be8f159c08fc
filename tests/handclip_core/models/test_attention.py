import pytest
import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import nn

from handclip_core.models.attention import OpenAttention, OpenPool, attend


def attention_of(width: int, heads: int) -> nn.MultiheadAttention:
    attention = nn.MultiheadAttention(width, heads, batch_first=True)
    for tensor in attention.parameters():
        nn.init.normal_(tensor, std=0.3)
    return attention.eval()


@pytest.mark.parametrize("training", [True, False])
def test_open_attention_is_that_of_torch(training: bool) -> None:
    attention = attention_of(12, 3).train(training)
    tokens = torch.randn(2, 5, 12)
    expected, _ = attention(tokens, tokens, tokens, need_weights=False)
    found, weights = OpenAttention(attention)(tokens, tokens, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert weights is None


def test_open_attention_masks_as_torch_does() -> None:
    attention = attention_of(8, 2)
    tokens = torch.randn(2, 4, 8)
    mask = torch.full((4, 4), float("-inf")).triu(1)
    expected, _ = attention(tokens, tokens, tokens, need_weights=False, attn_mask=mask)
    found, _ = OpenAttention(attention)(tokens, tokens, tokens, attn_mask=mask)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_opening_and_closing_keeps_names_and_weights_and_draws_no_number() -> None:
    attention = attention_of(12, 3)
    drawn = torch.get_rng_state()
    closed = OpenAttention(attention).closed()
    assert torch.equal(drawn, torch.get_rng_state())
    before, after = attention.state_dict(), closed.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    tokens = torch.randn(2, 5, 12)
    with torch.no_grad():
        assert torch.equal(closed(tokens, tokens, tokens)[0], attention(tokens, tokens, tokens)[0])


def test_open_pool_is_that_of_open_clip_under_the_same_names() -> None:
    pool = AttentionPool2d(spacial_dim=3, embed_dim=16, num_heads=2, output_dim=6)
    opened = OpenPool(pool)
    maps = torch.randn(2, 16, 3, 3)
    torch.testing.assert_close(opened(maps), pool(maps), rtol=1e-5, atol=1e-6)
    assert opened.state_dict().keys() == pool.state_dict().keys()


def test_attend_is_softmax_of_scaled_products_head_by_head() -> None:
    query, key, value = (torch.randn(1, length, 4) for length in (2, 3, 3))
    found = attend(query, key, value, num_heads=2)
    for head in (slice(0, 2), slice(2, 4)):
        for place in range(2):
            products = torch.stack([query[0, place, head] @ key[0, other, head] for other in range(3)]) / 2**0.5
            shares = products.exp() / products.exp().sum()
            expected = sum(shares[other] * value[0, other, head] for other in range(3))
            torch.testing.assert_close(found[0, place, head], expected)
