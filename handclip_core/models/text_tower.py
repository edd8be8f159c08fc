"""CLIP's text tower: from token ids, or from vectors in their place, to text embeddings."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from handclip_core.errors import InputError


def encode_trimmed(text: Any, tokens: Tensor) -> Tensor:
    """What open_clip's TextTransformer ``text`` makes of ``tokens`` [B, context]: embeddings [B, D].

    A causal tower that reads its answer off the end-of-text token (the largest id) never looks at what follows it, so
    the padding behind the longest text is left out if the tower is of this kind.
    """
    if not _reads_end_of_text(text):
        whole: Tensor = text(tokens)
        return whole
    ends = tokens.argmax(dim=1)
    return _encode(text, text.token_embedding(tokens[:, : int(ends.max()) + 1]), ends)


def text_prefixes(text: Any) -> list[tuple[str, ...]]:
    """Parameter prefixes of each block of open_clip's TextTransformer ``text``; the projection is the last block."""
    owners = {name.split(".")[0] for name, _ in text.named_parameters()}
    stem = tuple(name for name in ("token_embedding", "positional_embedding", "cls_emb") if name in owners)
    residual = [(f"transformer.resblocks.{i}",) for i in range(len(text.transformer.resblocks))]
    return [stem, *residual, ("ln_final",), *([("text_projection",)] if "text_projection" in owners else [])]


def num_cut(tokenizer: Any, texts: Sequence[str]) -> int:
    """How many of ``texts`` have more tokens than ``tokenizer``, one of open_clip's, lets through."""
    longer = tokenizer.context_length + 1
    *last, padding = tokenizer([*texts, ""], context_length=longer)[:, -1].tolist()
    return sum(token != padding for token in last)


class TextTower:
    """A frozen text tower that is part of no model.

    So neither optimisers nor checkpoints see its weights (two fifths of a ViT-B/32), and it stays on its device.
    ``width`` is E, that of the token vectors, and ``temperature`` what the towers were trained to divide cosines by.
    """

    def __init__(
        self, text: Any, *, name: str, tokenize: Callable[[Sequence[str]], Tensor], temperature: float
    ) -> None:
        """Take over open_clip's TextTransformer ``text``; raises InputError if it does not read the end of text."""
        if not _reads_end_of_text(text):
            raise InputError(
                f"backbone.name: the text tower of {name} does not read its answer off the end-of-text token, as "
                "learned prompts need; choose another ViT-... or RN... name"
            )
        self._text: nn.Module = text.requires_grad_(False).eval()
        self._tokenize = tokenize
        self.context_length = int(text.context_length)
        self.width = int(text.token_embedding.weight.shape[1])
        self.temperature = temperature

    def embed_words(self, text: str) -> Tensor:
        """The token vectors [L, E] of a text, from start-of-text to end-of-text."""
        tokens = self._tokenize([text])[0].to(self._vectors.device)
        return self._vectors[tokens[: int(tokens.argmax()) + 1]].detach()

    def encode(self, vectors: Tensor) -> Tensor:
        """Projected text embeddings [T, D], not normalised, of token vectors [T, L, E]; the last is the end of text."""
        ends = torch.full((len(vectors),), vectors.shape[1] - 1, device=vectors.device)
        return _encode(self._text, vectors, ends)

    @property
    def _vectors(self) -> Tensor:
        return self._text.get_parameter("token_embedding.weight")


def _reads_end_of_text(text: Any) -> bool:
    return text.pool_type == "argmax" and text.attn_mask is not None and text.cls_emb is None


def _encode(text: Any, vectors: Tensor, ends: Tensor) -> Tensor:
    """Embeddings [B, D] read at the positions ``ends`` [B] of token vectors [B, L, E]."""
    length = vectors.shape[1]
    dtype = text.transformer.get_cast_dtype()
    hidden = vectors.to(dtype) + text.positional_embedding[:length].to(dtype)
    hidden = text.ln_final(text.transformer(hidden, attn_mask=text.attn_mask[:length, :length]))
    pooled = hidden[torch.arange(len(vectors), device=vectors.device), ends]
    projection = text.text_projection
    embedded: Tensor = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    return embedded
