"""Awkward batches, and every loss on pairs as a slow loop over single images."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from handclip_core.losses.contrastive import infonce
from handclip_core.losses.metric import circle, supcon, triplet
from handclip_core.losses.mining import Mining
from handclip_core.losses.pairs import PairLoss
from handclip_core.losses.term import Loss
from handclip_core.types import Batch, Encoded, Output

WIDTH = 6
LABELS = {
    "people": [0, 0, 1, 1, 1, 2, 2, 2, 2],
    "singletons": [3, 0, 0, 1, 2, 2],
    "one class": [1, 1, 1, 1],
    "strangers": [4, 0, 2, 1],
    "one stranger": [0, 0, 0, 5],
    "twins": [0, 0, 1, 1, 2],
    "many": [i // 4 for i in range(40)],
}
TWINS = (0, 1, 3)
"""Images of the batch 'twins' that are the same, two of one class and one of another."""


@dataclass(frozen=True)
class Images:
    """Vectors [B, WIDTH] in float64 and classes [B] of a batch."""

    vectors: Tensor
    labels: Tensor

    def value_and_gradient(self, loss: Loss, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """What ``loss`` gives where every vector of the output is this one."""
        vectors = self.vectors.to(dtype).requires_grad_()
        return differentiated(loss(output_of(vectors), batch_of(self.labels)), vectors)


@dataclass(frozen=True)
class PairCase:
    """A loss on pairs, and a loop that computes it from single vectors.

    ``loop(anchors, references, relation)`` sees a pair (i, j) as positive where relation[i][j] is 1, negative at -1.
    """

    loss: PairLoss
    loop: Callable[[list[Tensor], list[Tensor], list[list[int]]], Tensor]


def output_of(vectors: Tensor, logits: Tensor | None = None) -> Output:
    return Output(Encoded(vectors, vectors), vectors, vectors if logits is None else logits)


def batch_of(labels: Tensor) -> Batch:
    nothing = torch.zeros(len(labels), dtype=torch.int64)
    return Batch(torch.zeros(len(labels), 0), labels, rows=nothing, aspects=nothing)


def differentiated(value: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(value, vectors)
    return value.detach(), gradient


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=itertools.product(LABELS, range(3)), ids=lambda param: f"{param[0]}-{param[1]}")
def images(request: pytest.FixtureRequest) -> Images:
    name, seed = request.param
    labels = torch.tensor(LABELS[name])
    vectors = random(len(labels), WIDTH, seed=seed)
    if name == "twins":
        vectors[list(TWINS)] = vectors[0].clone()
    return Images(vectors, labels)


@pytest.fixture(params=["hard", "semihard", "circle", "supcon", "infonce"])
def pair_case(request: pytest.FixtureRequest) -> PairCase:
    cases = {
        "hard": lambda: PairCase(triplet(margin=0.5, mining=Mining.HARD), hard_loop),
        "semihard": lambda: PairCase(triplet(margin=0.5, mining=Mining.SEMIHARD), semi_hard_loop),
        "circle": lambda: PairCase(circle(margin=0.25, scale=8.0), circle_loop),
        "supcon": lambda: PairCase(supcon(temperature=0.2), supcon_loop),
        "infonce": lambda: PairCase(infonce(temperature=0.2), infonce_loop),
    }
    return cases[request.param]()


def relations(labels: Tensor, references: Tensor, own: list[int | None]) -> list[list[int]]:
    """1 for the same class, -1 for another one, 0 for ``own[i]``, the place of anchor i among the references."""
    return [
        [0 if own[i] == j else 1 if a == b else -1 for j, b in enumerate(references.tolist())]
        for i, a in enumerate(labels.tolist())
    ]


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if values else torch.zeros((), dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


def hard_loop(anchors: list[Tensor], references: list[Tensor], relation: list[list[int]]) -> Tensor:
    losses = []
    for a, row in zip(anchors, relation, strict=True):
        positives = [(a - r).norm() for r, kind in zip(references, row, strict=True) if kind == 1]
        negatives = [(a - r).norm() for r, kind in zip(references, row, strict=True) if kind == -1]
        if positives and negatives:
            excess: Tensor = max(positives, key=Tensor.item) - min(negatives, key=Tensor.item)
            losses.append((excess + 0.5).clamp(min=0))
    return mean(losses)


def semi_hard_loop(anchors: list[Tensor], references: list[Tensor], relation: list[list[int]]) -> Tensor:
    losses = []
    for a, row in zip(anchors, relation, strict=True):
        squared = [(a / a.norm() - r / r.norm()).square().sum() for r in references]
        for positive, negative in itertools.product(range(len(references)), repeat=2):
            if row[positive] == 1 and row[negative] == -1:
                excess = squared[negative] - squared[positive]
                if 1e-12 < excess.item() < 0.5:
                    losses.append(0.5 - excess)
    return mean(losses)


def circle_loop(anchors: list[Tensor], references: list[Tensor], relation: list[list[int]]) -> Tensor:
    losses = []
    for a, row in zip(anchors, relation, strict=True):
        total: dict[int, Tensor] = {}
        for r, kind in zip(references, row, strict=True):
            s = cosine(a, r)
            pull = (1.25 - s.detach()).clamp(min=0) * (s - 0.75)
            push = (s.detach() + 0.25).clamp(min=0) * (s - 0.25)
            term = (-8 * pull).exp() if kind == 1 else (8 * push).exp()
            total[kind] = total.get(kind, torch.zeros(())) + term
        if 1 in total and -1 in total:
            losses.append((1 + total[-1] * total[1]).log())
    return mean(losses)


def supcon_loop(anchors: list[Tensor], references: list[Tensor], relation: list[list[int]]) -> Tensor:
    losses = []
    for a, row in zip(anchors, relation, strict=True):
        terms = [((cosine(a, r) / 0.2).exp(), kind) for r, kind in zip(references, row, strict=True) if kind]
        everything = torch.stack([term for term, _ in terms]).sum() if terms else torch.ones(())
        logs = [-(term / everything).log() for term, kind in terms if kind == 1]
        if logs and -1 in row:
            losses.append(mean(logs))
    return mean(losses)


def infonce_loop(anchors: list[Tensor], references: list[Tensor], relation: list[list[int]]) -> Tensor:
    losses = []
    for a, row in zip(anchors, relation, strict=True):
        terms = [(cosine(a, r) / 0.2).exp() for r in references]
        negatives = [term for term, kind in zip(terms, row, strict=True) if kind == -1]
        for positive, kind in zip(terms, row, strict=True):
            if kind == 1 and negatives:
                losses.append(-(positive / (positive + torch.stack(negatives).sum())).log())
    return mean(losses)
