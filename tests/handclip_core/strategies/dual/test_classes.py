"""Strategies that train both towers, on classes: losses, gradients and answers by open_clip's own model, all uses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import optuna
import pytest
import torch
from open_clip.model import CustomTextCLIP
from sklearn.metrics import accuracy_score
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.inputs import Inputs
from handclip_core.engine.gradients import backward
from handclip_core.engine.optim import choose, freeze_all_but
from handclip_core.errors import InputError
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.hand_model import HandModel
from handclip_core.models.weights.origin import merged_updates
from handclip_core.process_group import process_group
from handclip_core.reports.measure import View
from handclip_core.reports.report import evaluate_run
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.ensemble import make_ensemble
from handclip_core.runs.experiment import Assembled, Experiment, assemble, context_of, run
from handclip_core.runs.loaded import load_finished
from handclip_core.runs.run_folder import BEST, load_run
from handclip_core.runs.soups import Ingredient, SoupBuilder, mixture, wise_ft_scores
from handclip_core.serving.export import export_run
from handclip_core.serving.model import open_run
from handclip_core.serving.text_search import Searcher
from handclip_core.strategies import ZeroShot
from handclip_core.strategies.dual.base import DualStrategy
from handclip_core.tasks.classes.names import TEMPLATES
from handclip_core.tasks.classes.scores import ClassScores
from handclip_core.tasks.classes.task import Classes
from handclip_core.types import Templates
from search_spaces.by_task import spaces_of
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
NAMES = [
    "the back of a right hand", "the back of a left hand", "the palm of a right hand", "the palm of a left hand",
]  # fmt: skip
MANY = {"templates": "many"}
QUICK: dict[str, dict[str, Any]] = {
    "two_tower": {"rates": "published", "class_loss": "cross_entropy", **MANY},
    "clip_lora": {"rank": 2, "alpha": 8.0, "targets": "both"},
    "prolip": {"pull": 0.0, "class_loss": "contrastive"},
}
every_name = pytest.mark.parametrize("name", QUICK)


@pytest.fixture(scope="module")
def backbone(tiny_backbones: dict[str, BackboneSettings]) -> BackboneSettings:
    return tiny_backbones["vit"]


@pytest.fixture(scope="module")
def finished(backbone: BackboneSettings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each strategy, and one of a linear probe."""
    parent = tmp_path_factory.mktemp("classes")
    for name in (*QUICK, "linear_probe"):
        train_into(parent / name, experiment(backbone, name, 4), device=CPU)
    return {path.name: path for path in parent.iterdir()}


def experiment(backbone: BackboneSettings, name: str, seed: int, **changes: object) -> Experiment:
    """The strategy, by default with rates that move a tiny model."""
    strategy = {"name": name, "optim": {"batch_size": 16, "lr": 1e-2}} | QUICK.get(name, {}) | changes
    values = {"task": {"name": "classes"}, "strategy": strategy, "data": TINY_DATA, "backbone": backbone}
    return Experiment.model_validate(values | {"budget": 2, "seed": seed})


def assembled(backbone: BackboneSettings, name: str, **changes: object) -> Assembled:
    wanted = experiment(backbone, name, 3, **changes)
    return assemble(wanted, context_of(wanted, CPU))


def answers(context: ExperimentContext, model: HandModel, inputs: Inputs | None = None) -> ClassScores:
    """What the evaluator makes of ``model`` on the validation images."""
    found = context.evaluator("val").evaluate(model, inputs or context.pixel_inputs)
    assert isinstance(found, ClassScores)
    return found


def plain_clip(backbone: BackboneSettings, weights: dict[str, Tensor], *, alpha: float | None = None) -> CustomTextCLIP:
    """open_clip's model with the towers in ``weights`` of ours."""
    config = Path(backbone.name.removeprefix("local-dir:")) / "open_clip_config.json"
    clip = CustomTextCLIP(**json.loads(config.read_text())["model_cfg"])
    plain = merged_updates(weights, alpha=alpha, source=config)
    clip.load_state_dict({key.removeprefix("backbone."): one for key, one in plain.items() if "backbone." in key})
    return clip.eval()


def normalised(images: Tensor) -> Tensor:
    return (images - 0.5) / 0.25


def sentences_of(name: str, templates: Templates) -> list[str]:
    return [template.replace("{}", name) for template in TEMPLATES[templates]]


def cross_entropy_by_hand(clip: CustomTextCLIP, images: Tensor, classes: list[int], templates: Templates) -> Tensor:
    """Image by image and class by class: the logit is the cosine with the mean of the class's unit vectors."""
    tokenize = open_clip.get_tokenizer("ViT-B-32", context_length=16)
    vectors = []
    for name in NAMES:
        units = [F.normalize(clip.encode_text(tokenize([text]))[0], dim=0) for text in sentences_of(name, templates)]
        vectors.append(F.normalize(torch.stack(units).mean(dim=0), dim=0))
    total = images.new_zeros(())
    for image, truth in zip(images, classes, strict=True):
        seen = F.normalize(clip.encode_image(image[None])[0], dim=0)
        logits = [clip.logit_scale.exp() * (seen @ one) for one in vectors]
        total = total + torch.stack([one.exp() for one in logits]).sum().log() - logits[truth]
    return total / len(images)


def contrast_by_hand(clip: CustomTextCLIP, images: Tensor, classes: list[int], shown: list[str]) -> Tensor:
    """Both directions, pair by pair; an image or text of the same class stands in no denominator but its own's."""
    tokenize = open_clip.get_tokenizer("ViT-B-32", context_length=16)
    seen = [F.normalize(clip.encode_image(image[None])[0], dim=0) for image in images]
    read = [F.normalize(clip.encode_text(tokenize([text]))[0], dim=0) for text in shown]
    scale, total = clip.logit_scale.exp(), images.new_zeros(())
    for i, own in enumerate(classes):
        others = [j for j, other in enumerate(classes) if j == i or other != own]
        there = torch.stack([(scale * (seen[i] @ read[j])).exp() for j in others]).sum().log()
        back = torch.stack([(scale * (seen[j] @ read[i])).exp() for j in others]).sum().log()
        total = total + (there + back) / 2 - scale * (seen[i] @ read[i])
    return total / len(images)


@pytest.mark.parametrize("micro_batch", [None, 5])
@pytest.mark.parametrize("templates", [Templates.PHOTO, Templates.MANY])
@pytest.mark.parametrize("class_loss", ["cross_entropy", "contrastive"])
def test_a_step_has_the_loss_and_gradients_of_a_slow_loop(
    backbone: BackboneSettings, class_loss: str, templates: Templates, micro_batch: int | None
) -> None:
    ready = assembled(backbone, "two_tower", class_loss=class_loss, templates=templates)
    model, phase, batch = ready.model.double().train(), ready.phases[0], ready.loader(0).batch(0)
    clip = plain_clip(backbone, model.state_dict()).double()
    freeze_all_but(model, choose(model, phase.train))
    found = backward(model, batch, phase, micro_batch=micro_batch, group=process_group(), seed=0)
    assert isinstance(batch.inputs, Tensor)
    images, labels = normalised(batch.inputs.double()), batch.labels.tolist()
    manifest = ready.context.prepared.manifest["aspect"].iloc[batch.rows.tolist()]
    aspects = ["dorsal right", "dorsal left", "palmar right", "palmar left"]
    classes = [aspects.index(one) for one in manifest]
    if class_loss == "cross_entropy":
        assert labels == classes
        loss = cross_entropy_by_hand(clip, images, classes, templates)
    else:
        texts = [text for name in NAMES for text in sentences_of(name, templates)]
        shown = [texts[label] for label in labels]
        assert all(text in sentences_of(NAMES[one], templates) for text, one in zip(shown, classes, strict=True))
        assert (len(set(shown)) > len(NAMES)) == (templates is Templates.MANY)
        loss = contrast_by_hand(clip, images, classes, shown)
    assert found.total.item() == pytest.approx(loss.item(), rel=1e-9)
    loss.backward()
    expected = {f"backbone.{name}": one.grad for name, one in clip.named_parameters() if one.grad is not None}
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-9, rtol=1e-6, msg=name)


@every_name
def test_the_evaluation_is_open_clips_zero_shot_classification_by_the_tuned_weights(
    name: str, backbone: BackboneSettings, finished: dict[str, Path]
) -> None:
    wanted = experiment(backbone, name, 4)
    context = context_of(wanted, CPU)
    weights = torch.load(finished[name] / BEST, weights_only=True)
    clip = plain_clip(backbone, weights, alpha=QUICK[name].get("alpha"))
    rows = context.rows("val")
    pixels = context.pixel_inputs.of(rows, device=CPU)
    assert isinstance(pixels, Tensor)

    def by_open_clip(templates: Templates) -> Tensor:
        tokenizer = open_clip.get_tokenizer("ViT-B-32", context_length=16)
        classifier = open_clip.build_zero_shot_classifier(clip, tokenizer, NAMES, TEMPLATES[templates])
        with torch.no_grad():
            images = clip.encode_image(normalised(pixels), normalize=True)
            logits: Tensor = clip.logit_scale.exp() * images @ classifier
        return logits.softmax(dim=1)

    model = load_run(finished[name], device=CPU)
    found = answers(context, model)
    probabilities = by_open_clip(Templates(wanted.strategy.templates))
    np.testing.assert_allclose(found.probabilities, probabilities.numpy(), atol=1e-4)
    assert found.metrics["accuracy"] == accuracy_score(found.truth, probabilities.argmax(dim=1).numpy())
    logged = context.evaluator("val").validate(model, context.pixel_inputs)
    own = accuracy_score(found.truth, by_open_clip(Templates.MANY).argmax(dim=1).numpy())
    assert logged["zero_shot_accuracy"] == pytest.approx(own)
    assert logged["generic_retention"] < 0.99
    assert evaluate_run(finished[name], device=CPU, view=View("val")).values["metrics"]["accuracy"] == pytest.approx(
        found.metrics["accuracy"]
    )


@every_name
def test_before_training_it_is_the_zero_shot_classifier(name: str, backbone: BackboneSettings) -> None:
    ready = assembled(backbone, name, **MANY)
    head = assemble(ready.experiment.model_copy(update={"strategy": ZeroShot(templates=Templates.MANY)}), ready.context)
    mine, zero_shot = (answers(ready.context, one.model) for one in (ready, head))
    np.testing.assert_allclose(mine.probabilities, zero_shot.probabilities, atol=1e-5)
    logged = ready.context.evaluator("val").validate(ready.model, ready.context.pixel_inputs)
    assert logged["retention"] == 1
    assert logged["generic_retention"] == pytest.approx(1, abs=1e-3)
    assert logged["accuracy"] == logged["zero_shot_accuracy"]


@every_name
def test_a_tower_without_a_rate_stays_frozen_and_the_other_moves_the_answers(
    name: str, backbone: BackboneSettings
) -> None:
    for frozen, other in (("vision", "text"), ("text", "vision")):
        ready = assembled(backbone, name, **{frozen: 0.0, other: 1.0})
        names = {item.name for item in choose(ready.model, ready.phases[0].train)}
        towers = {"vision": "backbone.visual.", "text": "backbone.text."}
        assert not any(one.startswith(towers[frozen]) for one in names)
        assert any(one.startswith(towers[other]) for one in names)
    *_, last = run(experiment(backbone, name, 3, vision=0.0, text=1.0), device=CPU)
    assert last.metrics["generic_retention"] < 0.99
    assert (last.accuracy is not None) == (QUICK[name].get("class_loss") != "contrastive")


@every_name
def test_runs_are_mixed_fused_and_searched_by_text(
    name: str, backbone: BackboneSettings, finished: dict[str, Path], tmp_path: Path
) -> None:
    wanted, folder = experiment(backbone, name, 4), finished[name]
    context = context_of(wanted, CPU)
    mine = Ingredient("mine", wanted, folder / BEST)
    own, before = answers(context, load_run(folder, device=CPU)), answers(context, assemble(wanted, context).model)
    for alpha, same in ((0.0, before), (1.0, own)):
        mixed = answers(context, mixture([mine], alpha=alpha, device=CPU))
        np.testing.assert_allclose(mixed.probabilities, same.probabilities, atol=1e-4)
    assert len(wise_ft_scores(mine, device=CPU)) == 5
    (soup,) = SoupBuilder([[mine], [Ingredient("again", wanted, folder / BEST)]], CPU).soups()
    assert soup.scores[0].metrics == pytest.approx(own.metrics)
    made = make_ensemble([folder, finished["linear_probe"]], tmp_path / "both", weights=[0.5, 0.5], device=CPU)
    together = load_finished(made.folder, device=CPU)
    other = answers(context, load_run(finished["linear_probe"], device=CPU))
    fused = answers(context, together.model, together.inputs)
    np.testing.assert_allclose(fused.probabilities, (own.probabilities + other.probabilities) / 2, atol=1e-5)
    read, first = (one.read_texts(["a hand"]) for one in (load_run(folder, device=CPU), together.model))
    assert read is not None
    assert first is not None
    torch.testing.assert_close(first, read)
    np.testing.assert_allclose(Searcher(folder, device=CPU).text("a hand"), F.normalize(read, dim=1), atol=1e-6)


@every_name
def test_exports_hold_the_tuned_towers(
    name: str, backbone: BackboneSettings, finished: dict[str, Path], tmp_path: Path
) -> None:
    served = open_run(finished[name])
    context = context_of(experiment(backbone, name, 4), CPU)
    files = [context.prepared.paths()[row] for row in context.rows("val")]
    export_run(served, tmp_path / "safetensors", kind="safetensors")
    np.testing.assert_allclose(open_run(tmp_path / "safetensors").embed(files), served.embed(files), atol=1e-6)
    export_run(served, tmp_path / "open_clip", kind="open_clip")
    exported = f"local-dir:{tmp_path / 'open_clip'}"
    clip, tokenizer = open_clip.create_model(exported).eval(), open_clip.get_tokenizer(exported)
    templates = TEMPLATES[Templates(served.experiment.strategy.templates)]
    classifier = open_clip.build_zero_shot_classifier(clip, tokenizer, NAMES, templates)
    own = answers(context, load_run(finished[name], device=CPU))
    predicted = (served.embed(files) @ classifier.numpy()).argmax(axis=1)
    assert own.metrics["accuracy"] == accuracy_score(own.truth, predicted)
    pytest.importorskip("onnxruntime")
    assert "embeddings differ by" in export_run(served, tmp_path / "onnx", kind="onnx")


@pytest.mark.parametrize(
    "changes", [{"losses": {"kind": "triplet"}}, {"losses": {"negatives": "by_text"}}, {"texts": {"most": 1}}]
)
def test_settings_of_pairs_are_refused_where_every_class_is_read(
    backbone: BackboneSettings, changes: dict[str, object]
) -> None:
    with pytest.raises(InputError, match=r"strategy\.class_loss: cross_entropy reads .* set class_loss: contrastive"):
        assembled(backbone, "clip_lora", **changes)
    assembled(backbone, "clip_lora", class_loss="contrastive", **changes)


@pytest.mark.parametrize("name", ["two_tower", "clip_lora"])
def test_images_that_a_frozen_tower_reads_once_are_not_changed_in_a_sweep(name: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [spaces_of(Classes())[name](study.ask()) for _ in range(40)]
    frozen = [one for one in drawn if isinstance(one, DualStrategy) and not one.vision]
    assert 0 < len(frozen) < len(drawn)
    assert not any(one.augment.active for one in frozen)


@pytest.mark.parametrize("name", ["sequential_ewc", "sequential"])
def test_one_aspect_after_another_is_refused_with_the_reason(name: str, backbone: BackboneSettings) -> None:
    wanted = f"{name} does not serve the task classes; choose from .*; {name} learns one aspect of the same identities"
    with pytest.raises(ValueError, match=wanted):
        experiment(backbone, name, 3)
