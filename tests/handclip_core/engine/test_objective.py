import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from handclip_core.engine.objective import EXPLODED, DivergedError, Objective, objective, refuse_divergence
from handclip_core.errors import InputError
from handclip_core.losses.term import Loss, Term
from handclip_core.types import Batch, Encoded, Output


class Quadratic:
    def __call__(self, model: nn.Module) -> Tensor:
        return sum((p.square().sum() for p in model.parameters()), torch.zeros(()))


def output_and_batch() -> tuple[Output, Batch]:
    zeros = torch.zeros(2, 3, requires_grad=True)
    return Output(Encoded(zeros, zeros), zeros, zeros), Batch(zeros, *(torch.arange(2),) * 3)


def constant(name: str, value: float, weight: float = 1.0) -> Term:
    """A loss of a constant value that depends on the embedding."""
    return Term(name, lambda output, _: value + output.embedding.sum(), weight)


def test_terms_are_weighted_and_penalties_added() -> None:
    output, batch = output_and_batch()
    terms = (constant("a", 2.0, 0.5), constant("b", 3.0))
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    found = objective(output, batch, terms=terms, penalties=(Quadratic(),), model=model)  # type: ignore[arg-type]
    assert found.total.item() == 0.5 * 2 + 3 + 4
    assert {name: value.item() for name, value in found.parts.items()} == {"a": 2, "b": 3, "quadratic": 4}


def test_accuracy_is_that_of_the_head_where_a_term_trains_it() -> None:
    output, batch = output_and_batch()
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, 1.0, 0.5]])  # the first image is of class 0, the second of class 1
    output = replace(output, logits=logits)
    found = objective(output, batch, terms=(constant("identity_trunk", 1.0),), penalties=(), model=nn.Linear(1, 1))
    assert found.accuracy is not None
    assert found.accuracy.item() == 0.5
    assert objective(output, batch, terms=(constant("a", 1.0),), penalties=(), model=nn.Linear(1, 1)).accuracy is None


def test_a_loss_that_reads_nothing_trained_is_the_users_to_mend() -> None:
    output, batch = output_and_batch()
    terms = (constant("good", 1.0), Term("triplet", lambda output, _: output.logits.detach().sum()))
    with pytest.raises(InputError, match="'triplet' reads nothing that is trained"):
        objective(output, batch, terms=terms, penalties=(), model=nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("loss", "said"),
    [(lambda output, _: output.logits, r"'own' gives a tensor \[2, 3\]"), (lambda *_: 0.5, "'own' gives float")],
)
def test_a_loss_that_is_no_scalar_tensor_is_the_users_to_mend(loss: Loss, said: str) -> None:
    output, batch = output_and_batch()
    with pytest.raises(InputError, match=said):
        objective(output, batch, terms=(Term("own", loss),), penalties=(), model=nn.Linear(1, 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_with_its_terms(value: float) -> None:
    output, batch = output_and_batch()
    terms = (constant("good", 1.0), constant("bad", value))
    found = objective(output, batch, terms=terms, penalties=(), model=nn.Linear(1, 1))
    with pytest.raises(DivergedError, match=rf"phase 'p' at step 7: good 1, bad {value:g}"):
        refuse_divergence(found, phase="p", step=7)


class Weighty:
    """A penalty of one value, whatever the weights."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, model: nn.Module) -> Tensor:
        del model
        return torch.tensor(self.value)


def found_of(*, term: float, weight: float = 1.0, penalty: float) -> Objective:
    output, batch = output_and_batch()
    terms = (constant("good", term, weight),)
    return objective(output, batch, terms=terms, penalties=(Weighty(penalty),), model=nn.Linear(1, 1))  # type: ignore[arg-type]


def test_a_penalty_may_be_of_any_finite_size() -> None:
    """It is a sum over all weights, times a strength of up to a million."""
    found = found_of(term=1.0, penalty=1e30)
    assert found.total.item() == pytest.approx(1e30)
    refuse_divergence(found, phase="p", step=7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_penalty_that_is_no_number_ends_the_run_with_every_value(value: float) -> None:
    found = found_of(term=1.0, penalty=value)
    with pytest.raises(DivergedError, match=rf"phase 'p' at step 7: good 1, weighty {value:g}$"):
        refuse_divergence(found, phase="p", step=7)


@pytest.mark.parametrize(("term", "weight"), [(2 * EXPLODED, 1.0), (1e4, 1e3), (-2 * EXPLODED, 1.0)])
def test_a_weighted_term_that_has_exploded_ends_the_run_whatever_a_penalty_adds(term: float, weight: float) -> None:
    found = found_of(term=term, weight=weight, penalty=-term * weight)
    with pytest.raises(DivergedError, match=re.escape(f"good {term:g}, weighty {-term * weight:g}")):
        refuse_divergence(found, phase="p", step=7)


def test_what_counts_is_a_term_after_weighting() -> None:
    refuse_divergence(found_of(term=1e7, weight=1e-3, penalty=0.0), phase="p", step=7)
