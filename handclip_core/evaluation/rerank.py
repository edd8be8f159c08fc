"""Rankings improved by their neighbourhoods: k-reciprocal re-ranking and query expansion.

Both are options. Re-ranking looks at all queries at once, which a single search cannot; and if the gallery holds one
image an identity, as in the hand protocol, every neighbour that expansion adds to a query but one is another
identity's.
"""

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.similarity import as_tensor, cosine, normalised


def k_reciprocal(
    query: NDArray[Any] | Tensor,
    gallery: NDArray[Any] | Tensor,
    *,
    k1: int = 20,
    k2: int = 6,
    original_share: float = 0.3,
) -> Tensor:
    """Similarities [Q, G], float32, after k-reciprocal re-ranking of embeddings [Q, D] and [G, D].

    Zhong 2017, arXiv 1701.08398: neighbours are k-reciprocal sets of ``k1``, expanded by those of half the size,
    weighted by exp(-distance) and averaged over ``k2`` neighbours; the similarity is minus the weighted mean of their
    Jaccard distance and the original one, which has ``original_share`` (lambda). As in the authors' code the original
    distance is the squared Euclidean one over its largest value in the row. Neighbours as near as the last one are all
    taken, so that the order of the input does not matter. Holds (Q + G)^2 values.
    """
    if k1 < 1 or k2 < 1 or not 0 <= original_share <= 1:
        raise InputError(f"k1 {k1}, k2 {k2} and the original's share {original_share}: at least 1, 1, and 0 to 1")
    left, right = as_tensor(query), as_tensor(gallery)
    together = torch.cat([left, right.to(left)])
    distance = (2 - 2 * cosine(together, together).double()).clamp(min=0)
    distance = distance / distance.amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    weights = torch.where(_expanded(distance, k1), torch.exp(-distance), 0.0)
    weights = weights / weights.sum(dim=1, keepdim=True)
    if k2 > 1:
        near = _nearest(distance, k2).double()
        weights = (near / near.sum(dim=1, keepdim=True)) @ weights
    overlap = 1 - torch.cdist(weights[: len(left)], weights[len(left) :], p=1) / 2
    jaccard = 1 - overlap / (2 - overlap)
    mixed = jaccard * (1 - original_share) + distance[: len(left), len(left) :] * original_share
    return -mixed.float()


def expand_queries(
    query: NDArray[Any] | Tensor, gallery: NDArray[Any] | Tensor, *, k: int = 3, alpha: float = 3.0
) -> Tensor:
    """Unit queries [Q, D], float32, with their ``k`` nearest gallery entries added, weighted by cosine^alpha.

    Radenovic 2019, arXiv 1711.02512; ``alpha`` 0 is the plain average (Chum 2007). Entries at a negative
    cosine have no weight; those as near as the k-th are all taken.
    """
    if k < 1 or alpha < 0:
        raise InputError(f"k is {k} and alpha {alpha}; they need to be at least 1 and 0")
    similarity = cosine(query, gallery).double()
    if not similarity.shape[1]:
        raise InputError("the gallery is empty")
    near = _nearest(-similarity, k)
    weights = torch.where(near & (similarity > 0), similarity.clamp(min=0) ** alpha, 0.0)
    return normalised(normalised(query) + weights @ normalised(gallery).to(weights.device)).float()


def expanded_cosine(query: NDArray[Any] | Tensor, gallery: NDArray[Any] | Tensor) -> Tensor:
    """Cosines [Q, G] of queries [Q, D] expanded as :func:`expand_queries` does by default."""
    return cosine(expand_queries(query, gallery), gallery)


RANKINGS: dict[str, Callable[[Tensor, Tensor], Tensor] | None] = {
    "cosine": None,
    "rerank": k_reciprocal,
    "expand": expanded_cosine,
}
"""Ways to compare queries with a gallery, by the names of the command line; None for the cosine."""


def _nearest(distance: Tensor, k: int) -> Tensor:
    """Whether each entry [N, M] is among the ``k`` nearest of its row, or as near as the last of them."""
    last = distance.kthvalue(min(k, distance.shape[1]), dim=1, keepdim=True).values
    return distance <= last


def _reciprocal(distance: Tensor, k: int) -> Tensor:
    """k-reciprocal neighbours [N, N]: each is among the ``k`` nearest of the other, beside itself."""
    near = _nearest(distance, k + 1)
    return near & near.T


def _expanded(distance: Tensor, k1: int) -> Tensor:
    """Reciprocal sets [N, N], each with the half-size sets of its members that lie in it by two thirds."""
    full = _reciprocal(distance, k1)
    half = _reciprocal(distance, round(k1 / 2)).float()
    shared = full.float() @ half.T
    joins = full & (3 * shared > 2 * half.sum(dim=1))
    return full | (joins.float() @ half > 0)
