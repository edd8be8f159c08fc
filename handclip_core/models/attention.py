"""Attention whose projections are called as modules.

PyTorch's and open_clip's own read the weights of their projections and leave the modules aside, so that whatever
replaces such a module has no effect and no gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OpenAttention(nn.Module):
    """Self-attention with the weights of ``attention``; the stacked projections are the linear map ``in_proj``."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        assert attention.batch_first
        assert not attention.dropout
        self.num_heads = attention.num_heads
        self.in_proj = _linear(attention.in_proj_weight, attention.in_proj_bias)
        self.out_proj = _linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """As nn.MultiheadAttention for tokens [B, L, C], the same three times, without the attention's weights."""
        assert query is key is value
        assert not need_weights
        parts = self.in_proj(query).chunk(3, dim=-1)
        return self.out_proj(attend(*parts, num_heads=self.num_heads, mask=attn_mask)), None

    def closed(self) -> nn.MultiheadAttention:
        """An nn.MultiheadAttention with the same weights."""
        attention = nn.MultiheadAttention(self.in_proj.in_features, self.num_heads, batch_first=True, device="meta")
        attention.in_proj_weight = nn.Parameter(self.in_proj.weight)
        attention.in_proj_bias = nn.Parameter(self.in_proj.bias)
        attention.out_proj.weight, attention.out_proj.bias = self.out_proj.weight, self.out_proj.bias
        return attention.train(self.training)


class OpenPool(nn.Module):
    """The attention pool of a ModifiedResNet with the weights and the parameter names of ``pool``."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.num_heads: int = pool.num_heads
        self.positional_embedding: nn.Parameter = pool.positional_embedding
        self.k_proj: nn.Module = pool.k_proj
        self.q_proj: nn.Module = pool.q_proj
        self.v_proj: nn.Module = pool.v_proj
        self.c_proj: nn.Module = pool.c_proj

    def forward(self, hidden: Tensor) -> Tensor:
        """From a map [B, C, H, W] to embeddings [B, D]: the mean attends to itself and to all positions."""
        places = hidden.flatten(2).transpose(1, 2)
        tokens = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)
        tokens = tokens + self.positional_embedding.to(tokens.dtype)
        query, key, value = self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens)
        pooled: Tensor = self.c_proj(attend(query, key, value, num_heads=self.num_heads))
        return pooled[:, 0]


def attend(query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of [B, Q, C] over [B, L, C] in ``num_heads`` parts of the channels: [B, Q, C]."""
    q, k, v = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear map that owns these very parameters; draws no random number."""
    assert isinstance(weight, nn.Parameter)
    assert isinstance(bias, nn.Parameter)
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight, linear.bias = weight, bias
    return linear
