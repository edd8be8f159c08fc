"""Branches and experts: who sees which image, and how views are put together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from handclip_core.errors import InputError
from handclip_core.evaluation.embed import aspect_accuracy, embed
from handclip_core.evaluation.fusion import vote
from handclip_core.evaluation.protocol import GalleryKind, score_gallery_splits
from handclip_core.models.hand_model import HandModel
from handclip_core.models.views.experts import ExpertFusion, PerViewExperts
from handclip_core.models.views.heads import PerViewHeads
from handclip_core.models.views.router import Router
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, assemble
from handclip_core.tasks.identities.data import IdentityData
from handclip_core.types import ASPECT_INDEX, HAND_ASPECTS, Aspect
from tests.conftest import TINY_DATA

UNKNOWN = ASPECT_INDEX[Aspect.UNKNOWN]
ASPECTS = torch.arange(4).repeat(3)


def model_of(context: ExperimentContext, name: str, **settings: object) -> HandModel:
    strategy = {"name": name, "neck": {"kind": "linear"}, **settings}
    values = {"strategy": strategy, "data": TINY_DATA, "backbone": context.settings}
    model = assemble(Experiment.model_validate(values), context).model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def images(context: ExperimentContext) -> Tensor:
    return context.pixel_inputs.of(context.rows("val")[:12], device=context.device)


def own_view(model: PerViewExperts, image: Tensor, aspect: Aspect) -> Tensor:
    """What one expert makes of one image, step by step."""
    name = aspect.value.replace(" ", "_")
    encoded = model.experts[name](image.unsqueeze(0))
    vector: Tensor = encoded.projected @ model.branches.necks[name].get_parameter("layer.weight").T
    return vector[0]


@torch.no_grad()
def test_every_image_goes_through_the_expert_of_its_aspect(tiny_context: ExperimentContext) -> None:
    model = model_of(tiny_context, "aspect_specific")
    assert isinstance(model, PerViewExperts)
    shown = images(tiny_context)
    found = model.embed(shown, ASPECTS)
    for i in range(12):
        torch.testing.assert_close(found[i], own_view(model, shown[i], HAND_ASPECTS[ASPECTS[i]]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("fusion", [ExpertFusion.MEAN, ExpertFusion.CONCAT, ExpertFusion.SCORES])
def test_fused_cosines_are_the_weighted_sums_of_the_experts(
    tiny_context: ExperimentContext, fusion: ExpertFusion
) -> None:
    model = model_of(tiny_context, "aspect_specific", fusion=fusion)
    assert isinstance(model, PerViewExperts)
    model.shares.copy_(torch.rand(model.shares.shape).softmax(dim=1))
    shown = images(tiny_context)
    views = torch.stack(
        [torch.stack([F.normalize(own_view(model, one, aspect), dim=0) for aspect in HAND_ASPECTS]) for one in shown]
    )
    found = F.normalize(model.embed(shown, ASPECTS), dim=1)
    same = [(i, j) for i in range(12) for j in range(12) if ASPECTS[i] == ASPECTS[j]]
    for i, j in same:
        each = (views[i] * views[j]).sum(dim=1)
        if fusion is ExpertFusion.MEAN:
            means = views.mean(dim=1)
            expected = F.cosine_similarity(means[i], means[j], dim=0)
        else:
            shares = model.shares[ASPECTS[i]] if fusion is ExpertFusion.SCORES else torch.full((4,), 0.25)
            expected = (shares * each).sum()
        torch.testing.assert_close(found[i] @ found[j], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_votes_are_those_of_the_experts_one_by_one(tiny_context: ExperimentContext) -> None:
    model = model_of(tiny_context, "aspect_specific", fusion="votes")
    assert isinstance(model, PerViewExperts)
    assert model.similarity is not None
    shown = images(tiny_context)
    found = F.normalize(model.embed(shown, ASPECTS), dim=1)
    raw = [torch.stack([own_view(model, one, aspect) for one in shown]) for aspect in HAND_ASPECTS]
    views = [F.normalize(view, dim=1) for view in raw]
    expected = vote([(view[:5] @ view[5:].T).numpy() for view in views])
    assert np.allclose(model.similarity(found[:5], found[5:]).numpy(), expected, atol=1e-6)
    lengths = torch.rand(12, 4, 1) + 0.5
    longer = F.normalize((found.unflatten(1, (4, -1)) * lengths).flatten(start_dim=1), dim=1)
    assert np.allclose(model.similarity(longer[:5], longer[5:]).numpy(), expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("fusion", ExpertFusion)
def test_the_router_looks_only_where_an_aspect_is_asked_for(
    tiny_context: ExperimentContext, fusion: ExpertFusion
) -> None:
    model = model_of(tiny_context, "aspect_specific", fusion=fusion)
    assert isinstance(model, PerViewExperts)
    looks: list[object] = []
    model.start.register_forward_hook(lambda *_: looks.append(None))
    model.embed(images(tiny_context), ASPECTS)
    assert not looks
    model.embed(images(tiny_context), torch.full((12,), UNKNOWN))
    assert len(looks) == (fusion in (ExpertFusion.OWN, ExpertFusion.SCORES))


def test_chosen_shares_are_at_least_as_good_on_validation_people_as_any_expert_alone(
    tiny_context: ExperimentContext,
) -> None:
    model = model_of(tiny_context, "aspect_specific", fusion="scores")
    dataset = tiny_context.dataset
    assert isinstance(model, PerViewExperts)
    assert isinstance(dataset, IdentityData)
    rows, draws = tiny_context.rows("val"), dataset.gallery_splits("val")[:3]

    def mean_map() -> float:
        found = embed(
            model, tiny_context.pixel_inputs, rows, aspects=tiny_context.aspect_indices, device=tiny_context.device
        )
        scores = score_gallery_splits(found, rows, draws, tiny_context.identities, gallery=GalleryKind.OWN)
        return float(scores.overall.map.mean)

    equal = mean_map()
    model.shares.zero_()
    model.shares[:4] = torch.eye(4)
    alone = mean_map()
    model.calibrate(tiny_context.evaluator("val"), tiny_context.pixel_inputs)
    assert torch.allclose(model.shares[:4].sum(dim=1), torch.ones(4), atol=1e-5)
    before = model.shares.clone()
    assert mean_map() >= max(equal, alone) - 1e-6
    model.calibrate(tiny_context.evaluator("val"), tiny_context.pixel_inputs)
    assert torch.equal(model.shares, before), "the same model gets the same weights"


@pytest.mark.parametrize("name", ["multi_branch", "aspect_specific"])
def test_hidden_aspects_are_routed_by_the_classifier(tiny_context: ExperimentContext, name: str) -> None:
    model = model_of(tiny_context, name)
    shown = images(tiny_context)
    with torch.no_grad():
        predicted = model.predict_aspects(shown)
        assert predicted is not None
        hidden = model.embed(shown, torch.full((12,), UNKNOWN))
        told = model.embed(shown, predicted)
    torch.testing.assert_close(hidden, told, rtol=1e-4, atol=1e-5)
    rows, aspects = tiny_context.rows("val"), tiny_context.aspect_indices
    found = aspect_accuracy(model, tiny_context.pixel_inputs, rows, aspects=aspects, device=tiny_context.device)
    inputs = tiny_context.pixel_inputs.of(rows, device=tiny_context.device)
    with torch.no_grad():
        every = model.predict_aspects(inputs)
    assert every is not None
    assert found == pytest.approx((every.numpy() == aspects[rows]).mean())


def test_a_router_fitted_to_separable_vectors_is_right() -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(4, 8)) * 3
    aspects = np.arange(4).repeat(20)
    vectors = (centres[aspects] + 0.1 * generator.normal(size=(80, 8))).astype(np.float32)
    router = Router(8, HAND_ASPECTS)
    router.fit(vectors, aspects)
    unit = F.normalize(torch.from_numpy(vectors), dim=1)
    assert torch.equal(router(unit).argmax(dim=1), torch.from_numpy(aspects))


def test_a_router_answers_with_its_own_aspects_only() -> None:
    router = Router(3, [Aspect.PALMAR_LEFT, Aspect.DORSAL_LEFT])
    logits = router(torch.randn(50, 3))
    allowed = {ASPECT_INDEX[Aspect.PALMAR_LEFT], ASPECT_INDEX[Aspect.DORSAL_LEFT]}
    routed = router.route(torch.arange(50) % 5, logits)
    assert set(routed.tolist()) == allowed


def test_branches_of_one_image_train_by_running_statistics(tiny_context: ExperimentContext) -> None:
    model = model_of(tiny_context, "multi_branch", neck={"kind": "bn"}).train()
    assert isinstance(model, PerViewHeads)
    shown = images(tiny_context)[:5]
    embeddings = model.embed(shown, torch.tensor([0, 0, 0, 0, 3]))
    assert embeddings.isfinite().all()
    neck = model.branches.necks["palmar_left"]
    assert neck.training


def test_training_moves_only_the_expert_that_saw_the_image(tiny_context: ExperimentContext) -> None:
    model = model_of(tiny_context, "aspect_specific")
    assert isinstance(model, PerViewExperts)
    model.forward_trunk(images(tiny_context)[:3], torch.zeros(3, dtype=torch.int64)).projected.sum().backward()
    moved = {name for name, tower in model.experts.items() if any(p.grad is not None for p in tower.parameters())}
    assert moved == {"dorsal_right"}


def test_images_without_any_known_aspect_are_refused(tiny_context: ExperimentContext) -> None:
    manifest = tiny_context.prepared.manifest.assign(aspect=Aspect.UNKNOWN.value)
    prepared = replace(tiny_context.prepared, manifest=manifest)
    dataset = IdentityData(prepared, aspects=(Aspect.UNKNOWN,), gallery=GalleryKind.ALL)
    nameless = replace(tiny_context, dataset=dataset)
    with pytest.raises(InputError, match="aspect is known"):
        model_of(nameless, "multi_branch")


def test_embeddings_of_all_fusions_have_the_width_they_say(tiny_context: ExperimentContext) -> None:
    for fusion in ExpertFusion:
        model = model_of(tiny_context, "aspect_specific", fusion=fusion)
        rows = tiny_context.rows("val")[:4]
        found = embed(
            model, tiny_context.pixel_inputs, rows, aspects=tiny_context.aspect_indices, device=tiny_context.device
        )
        assert found.shape == (4, model.width)
