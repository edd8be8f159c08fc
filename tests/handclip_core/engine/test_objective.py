import pytest
import torch
from torch import Tensor, nn

from handclip_core.engine.objective import DivergedError, objective, refuse_divergence
from handclip_core.errors import InputError
from handclip_core.losses.term import Term
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


def test_a_loss_that_reads_nothing_trained_is_the_users_to_mend() -> None:
    output, batch = output_and_batch()
    terms = (constant("good", 1.0), Term("triplet", lambda output, _: output.logits.detach().sum()))
    with pytest.raises(InputError, match="'triplet' reads nothing that is trained"):
        objective(output, batch, terms=terms, penalties=(), model=nn.Linear(1, 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_with_its_terms(value: float) -> None:
    output, batch = output_and_batch()
    terms = (constant("good", 1.0), constant("bad", value))
    found = objective(output, batch, terms=terms, penalties=(), model=nn.Linear(1, 1))
    with pytest.raises(DivergedError, match=rf"phase 'p' at step 7: good 1, bad {value:g}"):
        refuse_divergence(found, phase="p", step=7)
