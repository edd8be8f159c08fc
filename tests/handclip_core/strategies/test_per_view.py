"""Strategies with a branch or an expert an aspect: any batch, any data with aspects, any fusion."""

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from handclip_core.data.folder import prepare_folder
from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.engine.gradients import backward
from handclip_core.engine.loop import Budget, train
from handclip_core.errors import InputError
from handclip_core.evaluation.protocol import GalleryKind
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.views.experts import ExpertFusion
from handclip_core.process_group import process_group
from handclip_core.reports.measure import View
from handclip_core.reports.report import evaluate_run
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.experiment import Experiment, assemble, run
from handclip_core.runs.run_folder import load_run
from handclip_core.strategies import MultiBranch
from handclip_core.tasks.identities.data import IdentityData
from handclip_core.types import HAND_ASPECTS
from tests.conftest import TINY_DATA
from tests.handclip_core.strategies.test_strategies_contract import BUDGET, resumes_bit_for_bit
from tests.process_pair import process_pair

CPU = torch.device("cpu")
BOTH = ("multi_branch", "aspect_specific")
OPTIM = {"batch_size": 8, "lr": 1e-3}
TINTS = ((155, 0, 0), (0, 155, 0), (0, 0, 155), (155, 155, 155))


def experiment_of(
    context: ExperimentContext, strategy: dict[str, object], *, data: DrawnData = TINY_DATA, budget: int = 4
) -> Experiment:
    values = {
        "strategy": {"optim": OPTIM, "rates": "published", **strategy},
        "data": data,
        "backbone": context.settings,
        "budget": budget,
        "seed": 3,
    }
    return Experiment.model_validate(values)


def gradients(context: ExperimentContext, strategy: dict[str, object], *, micro_batch: int | None) -> dict[str, Tensor]:
    """Of the first step, in double precision."""
    ready = assemble(experiment_of(context, strategy), context)
    ready.model.double().train()
    torch.manual_seed(0)
    batch = ready.loader(0).batch(0)
    backward(ready.model, batch, ready.phases[0], micro_batch=micro_batch, group=process_group(), seed=5)
    return {name: p.grad.clone() for name, p in ready.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_parts_that_lack_an_aspect_have_the_gradients_of_the_whole_batch(
    tiny_context: ExperimentContext, name: str, micro_batch: int
) -> None:
    strategy: dict[str, object] = {"name": name, "neck": {"kind": "bn"}}
    expected, found = (gradients(tiny_context, strategy, micro_batch=size) for size in (None, micro_batch))
    assert expected.keys() == found.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", BOTH)
def test_what_a_batch_does_not_show_is_not_trained_by_it(tiny_context: ExperimentContext, name: str) -> None:
    strategy: dict[str, object] = {"name": name, "sampler": {"kind": "shuffled"}, "optim": {"batch_size": 2}}
    ready = assemble(experiment_of(tiny_context, strategy), tiny_context)
    shown = set(ready.loader(0).batch(0).aspects.tolist())
    heads = [key for key in gradients(tiny_context, strategy, micro_batch=None) if key.startswith("branches.heads.")]
    assert len(heads) == len(shown) < 4


@pytest.mark.parametrize("loss", ["identity", "triplet", "circle", "contrastive", "center"])
@pytest.mark.parametrize("memory", [0, 8])
def test_no_loss_lets_images_of_one_aspect_train_the_expert_of_another(
    tiny_context: ExperimentContext, loss: str, memory: int
) -> None:
    losses = {"identity": {"weight": 0}, loss: {"weight": 1.0}, "memory": memory}
    strategy = {"name": "aspect_specific", "losses": losses, "sampler": {"kind": "pk", "images_each": 8}}
    ready = assemble(experiment_of(tiny_context, {**strategy, "optim": {"batch_size": 24}}), tiny_context)
    batch = ready.loader(0).batch(0)
    assert isinstance(batch.inputs, Tensor)
    others = (batch.aspects != 0).view(-1, 1, 1, 1)
    found = []
    for images in (batch.inputs, torch.where(others, 1 - batch.inputs, batch.inputs)):
        ready = assemble(experiment_of(tiny_context, {**strategy, "optim": {"batch_size": 24}}), tiny_context)
        for _ in range(2):  # the second time, there is something in the memory
            ready.model.zero_grad()
            changed = dataclasses.replace(batch, inputs=images)
            backward(ready.model.train(), changed, ready.phases[0], micro_batch=None, group=process_group(), seed=5)
        tower = ready.model.get_submodule("experts.dorsal_right")
        found.append([p.grad for p in tower.parameters() if p.grad is not None])
    assert found[0]
    assert any(gradient.abs().max() > 0 for gradient in found[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_batches_of_many_aspects_a_class_are_refused_where_branches_compare_pairs() -> None:
    values = {"name": "multi_branch", "losses": {"triplet": {"weight": 1}}, "sampler": {"kind": "cross_aspect"}}
    with pytest.raises(InputError, match="choose pk, best with labels: person_aspect"):
        MultiBranch.parse(values, source="strategy")


@pytest.mark.parametrize("name", BOTH)
def test_an_aspect_that_no_training_image_shows_has_no_branch(tiny_context: ExperimentContext, name: str) -> None:
    manifest = tiny_context.prepared.manifest
    lost = (manifest["aspect"] == "palmar left") & (manifest["subset"] == "train")
    manifest = manifest.assign(aspect=manifest["aspect"].where(~lost, "palmar right"))
    prepared = dataclasses.replace(tiny_context.prepared, manifest=manifest)
    dataset = IdentityData(prepared, aspects=HAND_ASPECTS, gallery=GalleryKind.ALL)
    context = dataclasses.replace(tiny_context, dataset=dataset)
    model = assemble(experiment_of(context, {"name": name}), context).model
    heads = {key for key, _ in model.get_submodule("branches.heads").named_children()}
    assert heads == {"dorsal_right", "dorsal_left", "palmar_right"}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("aspects", [["palmar left"], ["dorsal left", "palmar right"]])
def test_data_of_some_aspects_have_strangers_of_others_in_the_gallery(
    tiny_context: ExperimentContext, name: str, aspects: list[str]
) -> None:
    data = DrawnData.model_validate(TINY_DATA.model_dump() | {"aspects": aspects})
    experiment = experiment_of(tiny_context, {"name": name}, data=data)
    assert next(run(experiment, device=CPU)).metrics["map"] > 0
    heads = assemble(experiment, open_context(data, tiny_context.settings, CPU)).model.get_submodule("branches.heads")
    assert {key for key, _ in heads.named_children()} == {aspect.replace(" ", "_") for aspect in aspects}


@pytest.fixture(scope="module")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Twelve identities whose images are noise of a colour for each aspect."""
    folder, rng = tmp_path_factory.mktemp("tinted"), np.random.default_rng(0)
    rows = ["path,who,aspect"]
    for person, (number, aspect), shot in product(range(12), enumerate(HAND_ASPECTS), range(3)):
        pixels = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
        pixels += np.array(TINTS[number], dtype=np.uint8)
        name = f"{person}-{number}-{shot}.png"
        Image.fromarray(pixels).save(folder / name)
        rows.append(f"{name},{person},{aspect}")
    (folder / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    prepare_folder(folder, folder / "out", table=folder / "table.csv", identity_column="who", aspect_column="aspect")
    return PreparedData(source="prepared", folder=folder / "out")


@pytest.mark.parametrize("name", BOTH)
def test_aspects_that_can_be_seen_are_told_and_routed_by(
    tiny_context: ExperimentContext, tinted: PreparedData, tmp_path: Path, name: str
) -> None:
    values = {
        "strategy": {"name": name, "optim": OPTIM, "rates": "published"},
        "data": tinted,
        "backbone": tiny_context.settings,
        "budget": 8,
    }
    train_into(tmp_path / "run", Experiment.model_validate(values), device=CPU)
    told, hidden = (
        evaluate_run(tmp_path / "run", device=CPU, view=View("test", hide_aspects=hide)).values
        for hide in (False, True)
    )
    assert told["aspect_accuracy"] == 1.0
    assert hidden["scores"] == told["scores"]


def test_weights_of_experts_resume_too(tiny_context: ExperimentContext, tmp_path: Path) -> None:
    strategy: dict[str, object] = {"name": "aspect_specific", "fusion": "scores"}
    resumes_bit_for_bit(experiment_of(tiny_context, strategy, budget=BUDGET), tmp_path)


@pytest.mark.parametrize("fusion", ExpertFusion)
def test_a_saved_run_of_any_fusion_gives_its_figures_again(
    tiny_context: ExperimentContext, tmp_path: Path, fusion: ExpertFusion
) -> None:
    experiment = experiment_of(tiny_context, {"name": "aspect_specific", "fusion": fusion})
    folder = train_into(tmp_path / "run", experiment, device=CPU)
    told, hidden = (
        evaluate_run(tmp_path / "run", device=CPU, view=View("val", hide_aspects=hide)).values for hide in (False, True)
    )
    assert told["scores"]["overall"]["map"]["mean"] == pytest.approx(folder.best["map"], abs=1e-4)
    assert told["aspect_accuracy"] == pytest.approx(folder.best["aspect_accuracy"], abs=1e-6)
    needs_none = fusion in (ExpertFusion.MEAN, ExpertFusion.CONCAT, ExpertFusion.VOTES)
    assert (hidden["scores"] == told["scores"]) == needs_none
    assert load_run(tmp_path / "run", device=CPU).width == (16 if fusion in ("own", "mean") else 64)


@pytest.mark.spawn
def test_two_processes_pass_over_what_their_batch_does_not_show(
    tiny_context: ExperimentContext, tmp_path: Path
) -> None:
    """Batches of two never show four aspects: the weights of two processes are those of one."""
    with process_pair(one_of_two, tiny_context.settings, tmp_path):
        alone = {name: weights_after_ten_steps(tiny_context, name) for name in BOTH}
    for rank in range(2):
        for name, weights in torch.load(tmp_path / f"{rank}.pt", weights_only=True).items():
            for key, value in alone[name].items():
                torch.testing.assert_close(weights[key], value, rtol=1e-5, atol=1e-6, msg=f"{name} {key}")


def weights_after_ten_steps(context: ExperimentContext, name: str) -> dict[str, Tensor]:
    """Of ten steps of two images each, in double precision."""
    strategy = {"name": name, "sampler": {"kind": "shuffled"}, "optim": {"batch_size": 2, "weight_decay": 0.5}}
    ready = assemble(experiment_of(context, {**strategy}), context)
    ready.model.double()
    budget = Budget(units=1, epoch_images=20)
    for _ in train(ready.model, ready.phases, loader=ready.loader, budget=budget, seed=0):
        pass
    return {key: value.clone() for key, value in ready.model.state_dict().items()}


def one_of_two(rank: int, settings: BackboneSettings, folder: Path) -> None:
    """Train in a process group of two and save what comes out."""
    context = open_context(TINY_DATA, settings, CPU)
    torch.save({name: weights_after_ten_steps(context, name) for name in BOTH}, folder / f"{rank}.pt")
