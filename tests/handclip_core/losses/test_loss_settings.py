import dataclasses
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from handclip_core.errors import InputError
from handclip_core.losses.identity import cross_entropy
from handclip_core.losses.reading import ReadFrom
from handclip_core.losses.settings import Losses
from handclip_core.losses.term import Term
from handclip_core.types import Encoded, Output
from tests.handclip_core.losses.conftest import batch_of, random

EVERYTHING: dict[str, Any] = {
    "triplet": {"weight": 1.0},
    "circle": {"weight": 0.5},
    "contrastive": {"weight": 2.0},
    "center": {"weight": 0.01},
}


def terms_of(values: dict[str, Any]) -> tuple[Term, ...]:
    return Losses.parse(values, source="losses").terms(num_classes=4, embedding=6, trunk=9, projected=5)


def output(size: int) -> Output:
    encoded = Encoded(features=random(size, 9, seed=1).float(), projected=random(size, 5, seed=2).float())
    return Output(encoded, embedding=random(size, 6, seed=3).float(), logits=random(size, 4, seed=4).float().tanh())


def test_the_default_is_plain_cross_entropy() -> None:
    (term,) = Losses().terms(num_classes=4, embedding=6, trunk=9, projected=5)
    batch = batch_of(torch.tensor([0, 1, 2, 3, 3]))
    assert (term.name, term.weight) == ("identity", 1.0)
    assert torch.equal(term.loss(output(5), batch), cross_entropy()(output(5), batch))
    assert not Losses().margin_head
    assert not Losses().needs_pairs


def test_every_loss_with_a_weight_is_a_term() -> None:
    weights = {term.name: term.weight for term in terms_of(EVERYTHING)}
    assert weights == {"identity": 1.0, "triplet": 1.0, "circle": 0.5, "contrastive": 2.0, "center": 0.01}
    assert [term.name for term in terms_of({"identity": {"weight": 0}, **EVERYTHING})] == list(weights)[1:]


def test_a_memory_is_given_to_the_losses_on_pairs() -> None:
    with_memory = {term.name for term in terms_of({**EVERYTHING, "memory": 8}) if isinstance(term.loss, nn.Module)}
    without = {term.name for term in terms_of(EVERYTHING) if isinstance(term.loss, nn.Module)}
    assert with_memory - without == {"triplet", "circle", "contrastive"}
    assert without == {"center"}


@pytest.mark.parametrize("memory", [0, 8])
@pytest.mark.parametrize("on", ReadFrom)
def test_metric_losses_read_the_vector_that_is_asked_for(on: ReadFrom, memory: int) -> None:
    batch = batch_of(torch.tensor([0, 0, 1, 1, 2]))
    for term in terms_of({"identity": {"weight": 0}, **EVERYTHING, "on": on.value, "memory": memory}):
        given = output(5)
        vectors = {
            ReadFrom.EMBEDDING: given.embedding,
            ReadFrom.TRUNK: given.encoded.features,
            ReadFrom.PROJECTED: given.encoded.projected,
        }
        for tensor in vectors.values():
            tensor.requires_grad_()
        gradients = torch.autograd.grad(term.loss(given, batch), list(vectors.values()), allow_unused=True)
        assert {source for source, g in zip(vectors, gradients, strict=True) if g is not None} == {on}, term.name


@pytest.mark.parametrize("memory", [0, 8])
def test_with_unit_length_no_loss_depends_on_how_long_vectors_are(memory: int) -> None:
    batch = batch_of(torch.tensor([0, 0, 1, 1, 2]))
    values = {"identity": {"weight": 0}, **EVERYTHING, "memory": memory}
    for unit_length in (True, False):
        changed = set()
        for term in terms_of({**values, "unit_length": unit_length}):
            first = term.loss(output(5), batch)
            (again,) = (t for t in terms_of({**values, "unit_length": unit_length}) if t.name == term.name)
            longer = dataclasses.replace(output(5), embedding=7 * output(5).embedding)
            if not torch.isclose(again.loss(longer, batch), first, rtol=1e-4):
                changed.add(term.name)
        assert changed == (set() if unit_length else {"triplet", "center"})


@pytest.mark.parametrize("kind", ["softmax", "arcface", "cosface"])
def test_margin_losses_ask_for_a_margin_head(kind: str) -> None:
    losses = Losses.parse({"identity": {"kind": kind, "smoothing": 0.1}}, source="losses")
    assert losses.margin_head == (kind != "softmax")
    (term,) = losses.terms(num_classes=4, embedding=6, trunk=9, projected=5)
    assert term.loss(output(3), batch_of(torch.tensor([0, 1, 2]))).isfinite()


def test_each_choice_is_another_loss() -> None:
    batch = batch_of(torch.tensor([0, 0, 0, 1, 1, 2]))
    choices: list[tuple[str, list[dict[str, Any]]]] = [
        ("identity", [{"kind": kind} for kind in ("softmax", "arcface", "cosface")]),
        ("triplet", [{"weight": 1, "mining": mining} for mining in ("hard", "semihard")]),
        ("contrastive", [{"weight": 1, "kind": kind} for kind in ("supcon", "infonce")]),
    ]
    for name, settings in choices:
        values = [
            next(term for term in terms_of({name: each}) if term.name == name).loss(output(6), batch).item()
            for each in settings
        ]
        assert len(set(values)) == len(values), name


@pytest.mark.parametrize("name", ["triplet", "circle", "contrastive"])
def test_losses_on_pairs_need_pairs_in_a_batch_or_a_memory(name: str) -> None:
    values = {"identity": {"weight": 0}, name: {"weight": 1}}
    assert Losses.parse(values, source="losses").needs_pairs
    assert not Losses.parse({**values, "memory": 32}, source="losses").needs_pairs


def test_no_loss_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="every weight is 0: give one loss a weight"):
        Losses.parse({"identity": {"weight": 0}}, source="losses")


@pytest.mark.parametrize(
    "values",
    [
        {"triplet": {"weight": -1}},
        {"contrastive": {"temperature": 0}},
        {"identity": {"kind": "sphereface"}},
        {"memory": -1},
        {"on": "logits"},
        {"tripet": {}},
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        Losses.parse(values, source="losses")


def test_settings_survive_json() -> None:
    losses = Losses.parse({**EVERYTHING, "memory": 64, "on": "trunk"}, source="losses")
    assert Losses.model_validate_json(losses.model_dump_json()) == losses


def test_plain_cross_entropy_does_not_load_the_metric_library() -> None:
    code = (
        "import sys; from handclip_core.losses.settings import Losses; import handclip_core.losses.image_text; "
        "Losses().terms(num_classes=2, embedding=2, trunk=2, projected=2); "
        "sys.exit('pytorch_metric_learning' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
