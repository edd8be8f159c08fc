"""Elastic weight consolidation: weights that mattered for earlier phases resist change."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from handclip_core.types import Batch

CLASSES_A_PASS = 4
"""Classes whose gradients one vectorised backward pass takes; the memory is so many copies of the weights."""


class EWC:
    """lambda / 2 * sum_i F_i (theta_i - anchor_i)^2 over the parameters under ``prefixes`` (Kirkpatrick 2017, eq. 3).

    The Fisher information is exact: per-sample gradients, the expectation over classes under the model's own
    posterior, evaluation mode (van de Ven 2025, arXiv 2502.11756), scaled to mean one so that ``strength`` means the
    same after every phase. Phases add up online with ``decay`` (Schwarz 2018, arXiv 1805.06370). The identity head
    stays outside ``prefixes``: it is not used for retrieval.
    """

    def __init__(self, *, strength: float, decay: float, num_samples: int, prefixes: tuple[str, ...]) -> None:
        self._strength, self._decay, self._num_samples = strength, decay, num_samples
        self._prefixes = prefixes
        self._fisher: dict[str, Tensor] = {}
        self._anchor: dict[str, Tensor] = {}

    def __call__(self, model: nn.Module) -> Tensor:
        """The penalty, a scalar; zero before the first phase has ended and at the anchor."""
        named = dict(model.named_parameters())
        terms = [(f * (named[name] - self._anchor[name]).square()).sum() for name, f in self._fisher.items()]
        total = torch.stack(terms).sum() if terms else next(iter(named.values())).new_zeros(())
        return 0.5 * self._strength * total

    def consolidate(self, model: nn.Module, batches: Iterable[Batch]) -> None:
        """Add the Fisher information of the first ``num_samples`` pictures of ``batches`` and move the anchor here."""
        named = {name: p for name, p in model.named_parameters() if self._protects(name) and p.requires_grad}
        was_training = model.training
        model.eval()
        fisher = exact_fisher(model, _samples(batches, self._num_samples), named)
        model.train(was_training)
        for name, value in normalised(fisher).items():
            earlier = self._fisher.get(name)
            self._fisher[name] = value if earlier is None else self._decay * earlier + value
            self._anchor[name] = named[name].detach().clone()

    def state_dict(self) -> dict[str, Tensor]:
        """Fisher information and anchor, by parameter."""
        fisher = {f"fisher/{name}": value for name, value in self._fisher.items()}
        return fisher | {f"anchor/{name}": value for name, value in self._anchor.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the buffers of ``state_dict`` back."""
        self._fisher = {key.removeprefix("fisher/"): v for key, v in state.items() if key.startswith("fisher/")}
        self._anchor = {key.removeprefix("anchor/"): v for key, v in state.items() if key.startswith("anchor/")}

    def _protects(self, name: str) -> bool:
        return name.startswith(self._prefixes)


def exact_fisher(model: nn.Module, samples: Iterable[Batch], named: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Diagonal of E_x E_{y ~ p(y|x)} [grad log p(y|x)]^2 for the parameters ``named``; samples are batches of one."""
    total = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    count = 0
    for sample in samples:
        count += 1
        log_posterior = model(sample).logits.float().log_softmax(dim=1)[0]
        roots = log_posterior.detach().mul(0.5).exp()
        for rows in torch.split(torch.diag(roots), CLASSES_A_PASS):
            gradients = torch.autograd.grad(
                log_posterior, list(named.values()), rows, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
            for name, gradient in zip(named, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient.square().sum(dim=0)
    return {name: value / max(1, count) for name, value in total.items()}


def normalised(fisher: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same information scaled to mean one over all weights; all-zero information stays zero."""
    mean = sum(value.sum().item() for value in fisher.values()) / sum(value.numel() for value in fisher.values())
    return {name: value / mean if mean > 0 else value for name, value in fisher.items()}


def _samples(batches: Iterable[Batch], num_samples: int) -> Iterator[Batch]:
    """Single pictures of the batches, at most ``num_samples``."""
    left = num_samples
    for batch in batches:
        for i in range(len(batch.labels)):
            if left == 0:
                return
            left -= 1
            yield batch.item(i)
