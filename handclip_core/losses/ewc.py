"""Elastic weight consolidation: weights that mattered for earlier phases resist change."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

import torch
from torch import Tensor, nn

from handclip_core.losses.numerics import at_least_float32
from handclip_core.types import Batch

ROWS_A_PASS = 4
"""Gradients that one vectorised backward pass takes; the memory is so many copies of the weights."""

Weights = dict[str, Tensor]


class Remember(StrEnum):
    """How EWC keeps several phases: one running sum with the latest anchor, or each with an anchor of its own."""

    ONLINE = "online"
    SEPARATE = "separate"


class EWC:
    """lambda / 2 * sum_i F_i (theta_i - anchor_i)^2 over the parameters under ``prefixes`` (Kirkpatrick 2017, eq. 3).

    The Fisher information is the model's own: per-sample gradients, the expectation over classes under its posterior,
    evaluation mode (van de Ven 2025, arXiv 2502.11756), scaled to mean one so that ``strength`` means the same after
    every phase. ``num_draws`` as in ``fisher_information``. ``online`` adds phases up with ``decay`` and moves the
    anchor along (Schwarz 2018, arXiv 1805.06370); ``separate`` sums the penalties of all phases, each at its own anchor
    (Kirkpatrick 2017). The identity head stays outside ``prefixes``: it is not used for retrieval. ``logit_scale`` is
    what the head's logits are multiplied by before they are a posterior: 1, or the scale of a margin loss.
    """

    def __init__(
        self,
        *,
        strength: float,
        num_samples: int,
        num_draws: int | None = None,
        prefixes: tuple[str, ...],
        remember: Remember = Remember.ONLINE,
        decay: float = 1.0,
        logit_scale: float = 1.0,
    ) -> None:
        self._strength, self._decay, self._num_samples = strength, decay, num_samples
        self._prefixes, self._remember, self._logit_scale = prefixes, remember, logit_scale
        self._num_draws = num_draws
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
        information = fisher_information(
            model, samples, named, num_draws=self._num_draws, logit_scale=self._logit_scale
        )
        fisher = normalised(information)
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


def fisher_information(
    model: nn.Module,
    samples: Iterable[Batch],
    named: dict[str, nn.Parameter],
    *,
    num_draws: int | None = None,
    logit_scale: float = 1.0,
) -> Weights:
    """Diagonal of E_x E_{y ~ p(y|x)} [grad log p(y|x)]^2 for the parameters ``named``; samples are batches of one.

    The expectation over y is exact, a backward pass a class, or the mean over ``num_draws`` backward passes of
    (sum_y s_y sqrt(p_y) grad log p_y)^2 with random signs s, which has the same expectation since E[s_y s_z] is 0 for
    two classes (Hutchinson 1990). The signs are the same in every call.
    """
    generator = torch.Generator().manual_seed(0)
    total = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    count = 0
    for sample in samples:
        count += 1
        log_posterior = (logit_scale * at_least_float32(model(sample).logits)).log_softmax(dim=1)[0]
        roots = log_posterior.detach().mul(0.5).exp()
        rows = torch.diag(roots) if num_draws is None else roots * _signs(num_draws, len(roots), generator).to(roots)
        for part in torch.split(rows, ROWS_A_PASS):
            gradients = torch.autograd.grad(
                log_posterior, list(named.values()), part, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
            for name, gradient in zip(named, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient.square().sum(dim=0)
    return {name: value / max(1, count * (num_draws or 1)) for name, value in total.items()}


def _signs(num_draws: int, num_classes: int, generator: torch.Generator) -> Tensor:
    """Rows of -1 and 1 [num_draws, num_classes]."""
    return 2 * torch.randint(2, (num_draws, num_classes), generator=generator) - 1


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
