"""Elastic weight consolidation: weights that mattered for earlier phases resist change."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

import torch
from torch import Tensor, nn

from handclip_core.losses.numerics import at_least_float32
from handclip_core.types import Batch

CLASSES_A_PASS = 4
"""Classes whose gradients one vectorised backward pass takes; the memory is so many copies of the weights."""

Weights = dict[str, Tensor]


class Remember(StrEnum):
    """How EWC keeps several phases: one running sum with the latest anchor, or each with an anchor of its own."""

    ONLINE = "online"
    SEPARATE = "separate"


class EWC:
    """lambda / 2 * sum_i F_i (theta_i - anchor_i)^2 over the parameters under ``prefixes`` (Kirkpatrick 2017, eq. 3).

    The Fisher information is exact: per-sample gradients, the expectation over classes under the model's own
    posterior, evaluation mode (van de Ven 2025, arXiv 2502.11756), scaled to mean one so that ``strength`` means the
    same after every phase. ``online`` adds phases up with ``decay`` and moves the anchor along (Schwarz 2018, arXiv
    1805.06370); ``separate`` sums the penalties of all phases, each at its own anchor (Kirkpatrick 2017). The identity
    head stays outside ``prefixes``: it is not used for retrieval. ``logit_scale`` is what the head's logits are
    multiplied by before they are a posterior: 1, or the scale of a margin loss.
    """

    def __init__(
        self,
        *,
        strength: float,
        num_samples: int,
        prefixes: tuple[str, ...],
        remember: Remember = Remember.ONLINE,
        decay: float = 1.0,
        logit_scale: float = 1.0,
    ) -> None:
        self._strength, self._decay, self._num_samples = strength, decay, num_samples
        self._prefixes, self._remember, self._logit_scale = prefixes, remember, logit_scale
        self._fishers: list[Weights] = []
        self._anchors: list[Weights] = []

    def __call__(self, model: nn.Module) -> Tensor:
        """The penalty, a scalar; zero before the first phase has ended and at the anchor."""
        named = dict(model.named_parameters())
        terms = [
            (information * (named[name] - anchor[name]).square()).sum()
            for fisher, anchor in zip(self._fishers, self._anchors, strict=True)
            for name, information in fisher.items()
        ]
        total = torch.stack(terms).sum() if terms else next(iter(named.values())).new_zeros(())
        return 0.5 * self._strength * total

    def consolidate(self, model: nn.Module, batches: Iterable[Batch]) -> None:
        """Add the Fisher information of the first images of ``batches``, anchored at the present weights."""
        named = {name: p for name, p in model.named_parameters() if name.startswith(self._prefixes) and p.requires_grad}
        was_training = model.training
        model.eval()
        samples = _samples(batches, self._num_samples)
        fisher = normalised(exact_fisher(model, samples, named, logit_scale=self._logit_scale))
        model.train(was_training)
        if self._remember is Remember.ONLINE and self._fishers:
            earlier = self._fishers.pop()
            self._anchors.pop()
            fisher = {name: self._decay * earlier[name] + value for name, value in fisher.items()}
        self._fishers.append(fisher)
        self._anchors.append({name: parameter.detach().clone() for name, parameter in named.items()})

    def state_dict(self) -> Weights:
        """Fisher information and anchors, by phase and parameter."""
        kinds = {"fisher": self._fishers, "anchor": self._anchors}
        return {
            f"{index}/{kind}/{name}": value
            for kind, phases in kinds.items()
            for index, phase in enumerate(phases)
            for name, value in phase.items()
        }

    def load_state_dict(self, state: Weights) -> None:
        """Take the buffers of ``state_dict`` back."""
        num_phases = 1 + max((int(key.split("/")[0]) for key in state), default=-1)
        self._fishers = [{} for _ in range(num_phases)]
        self._anchors = [{} for _ in range(num_phases)]
        for key, value in state.items():
            index, kind, name = key.split("/", 2)
            (self._fishers if kind == "fisher" else self._anchors)[int(index)][name] = value


def exact_fisher(
    model: nn.Module, samples: Iterable[Batch], named: dict[str, nn.Parameter], *, logit_scale: float = 1.0
) -> Weights:
    """Diagonal of E_x E_{y ~ p(y|x)} [grad log p(y|x)]^2 for the parameters ``named``; samples are batches of one."""
    total = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    count = 0
    for sample in samples:
        count += 1
        log_posterior = (logit_scale * at_least_float32(model(sample).logits)).log_softmax(dim=1)[0]
        roots = log_posterior.detach().mul(0.5).exp()
        for rows in torch.split(torch.diag(roots), CLASSES_A_PASS):
            gradients = torch.autograd.grad(
                log_posterior, list(named.values()), rows, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
            for name, gradient in zip(named, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient.square().sum(dim=0)
    return {name: value / max(1, count) for name, value in total.items()}


def normalised(fisher: Weights) -> Weights:
    """The same information scaled to mean one over all weights; all-zero information stays zero."""
    mean = sum(value.sum().item() for value in fisher.values()) / sum(value.numel() for value in fisher.values())
    return {name: value / mean if mean > 0 else value for name, value in fisher.items()}


def _samples(batches: Iterable[Batch], num_samples: int) -> Iterator[Batch]:
    """Single images of the batches, at most ``num_samples``."""
    left = num_samples
    for batch in batches:
        for i in range(len(batch.labels)):
            if left == 0:
                return
            left -= 1
            yield batch.item(i)
