"""What every strategy must keep that trains both towers: as the contract of the others, on the task captions."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from open_clip.loss import ClipLoss
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn import functional as F

from handclip_core.engine.gradients import backward
from handclip_core.engine.loop import Budget, train
from handclip_core.engine.optim import choose, freeze_all_but
from handclip_core.losses.matching_settings import MatchingKind
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.neck import NeckInput
from handclip_core.process_group import process_group
from handclip_core.reports.measure import View
from handclip_core.reports.report import evaluate_run
from handclip_core.runs.context import open_context
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Assembled, Experiment, assemble, context_of, run
from handclip_core.runs.run_folder import load_run
from handclip_core.strategies import ALL, AnyStrategy, ClipLora, ProLip, Strategy, TwoTower, ZeroShot, serving
from handclip_core.strategies.dual.base import DualStrategy
from handclip_core.tasks.captions.task import Captions
from handclip_core.types import Batch, Templates
from search_spaces.by_task import spaces_of
from search_spaces.spaces import default_of, params_of
from tests.conftest import TINY_DATA
from tests.process_pair import assert_one_process_agrees, process_pair
from tune_jobs.config.settings import SweepSettings

CPU = torch.device("cpu")
BUDGET = 3
KINDS = tuple(kind for kind in ALL if issubclass(kind, DualStrategy))
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def quick(kind: type[Strategy], **changes: object) -> Strategy:
    """The strategy with its defaults, but rates that move a tiny model."""
    optim = kind().model_dump()["optim"] | {"batch_size": 16, "lr": 1e-2}  # type: ignore[call-arg]
    return kind.model_validate({"optim": optim, **changes})


def experiment_of(strategy: Strategy, backbone: BackboneSettings, **changes: object) -> Experiment:
    task = {"name": "captions"}
    values = {"strategy": strategy.model_dump(), "task": task, "data": TINY_DATA, "backbone": backbone, "seed": 3}
    return Experiment.model_validate(values | {"budget": BUDGET} | changes)


def assembled(strategy: Strategy, backbone: BackboneSettings) -> Assembled:
    experiment = experiment_of(strategy, backbone)
    return assemble(experiment, context_of(experiment, CPU))


def trained(ready: Assembled) -> set[str]:
    return {item.name for item in choose(ready.model, ready.phases[0].train)}


@every_kind
def test_settings_survive_json_are_explained_and_lie_in_their_space(kind: type[Strategy]) -> None:
    adapter: TypeAdapter[Strategy] = TypeAdapter(AnyStrategy)
    assert adapter.validate_json(quick(kind).model_dump_json()) == quick(kind)
    assert [name for name, field in kind.model_fields.items() if not field.description] == []
    spaces = spaces_of(Captions())
    assert params_of(kind(), spaces)  # type: ignore[call-arg]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(50):
        trial = study.ask()
        assert params_of(spaces[kind.model_fields["name"].default](trial), spaces) == trial.params


@every_kind
def test_a_run_resumed_from_any_unit_ends_bit_for_bit_the_same(
    kind: type[Strategy], tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    experiment = experiment_of(quick(kind), tiny_backbones["vit"])
    driven, whole = drive(experiment, tmp_path / "run", device=CPU), []
    ready = assembled(quick(kind), tiny_backbones["vit"])
    before = {name: value.clone() for name, value in ready.model.state_dict().items()}
    for number, report in enumerate(driven, start=1):
        driven.keep()
        driven.save(tmp_path / f"checkpoint{number}")
        whole.append(report)
    weights = {name: value.clone() for name, value in driven.model.state_dict().items()}
    assert [item.unit for item in whole] == list(range(1, BUDGET + 1))
    for cut in range(1, len(whole)):
        again = drive(experiment, tmp_path / f"resumed{cut}", device=CPU, resume=tmp_path / f"checkpoint{cut}")
        assert [item.metrics for item in again] == [item.metrics for item in whole[cut:]]
        assert all(torch.equal(weights[name], value) for name, value in again.model.state_dict().items())
    said = trained(ready)
    moved = {name for name, value in before.items() if not torch.equal(value, weights[name])}
    assert moved <= said
    assert not {name for name in said - moved if before[name].ndim > 1}, "trained, but never moved"
    folder = driven.record
    checkpoint = folder.kept_checkpoint()
    assert checkpoint is not None
    folder.finish(checkpoint=checkpoint, device=CPU)
    measured = evaluate_run(folder.folder, device=CPU, view=View("val"))
    assert measured.values["metrics"]["recall1"] == pytest.approx(folder.best["recall1"], abs=1e-4)
    assert "text to image" in (folder.folder / "evaluation_val_report.md").read_text()
    assert not load_run(folder.folder, device=CPU).training


@every_kind
@pytest.mark.parametrize("loss", [kind for kind in MatchingKind if kind is not MatchingKind.OWN])
def test_every_loss_has_finite_gradients(
    kind: type[Strategy], loss: MatchingKind, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    ready = assembled(quick(kind, losses={"kind": loss}), tiny_backbones["resnet" if kind is ProLip else "vit"])
    chosen = choose(ready.model, ready.phases[0].train)
    freeze_all_but(ready.model, chosen)
    step = {"micro_batch": None, "group": process_group(), "seed": 0}
    found = backward(ready.model.train(), ready.loader(0).batch(0), ready.phases[0], **step)  # type: ignore[arg-type]
    assert found.total.isfinite()
    gradients = [item.parameter.grad for item in chosen if item.parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    named = {item.name for item in chosen}
    assert ("backbone.logit_scale" in named) == (loss is not MatchingKind.TRIPLET)
    assert ("bias" in named) == (loss is MatchingKind.SIGMOID)


@every_kind
def test_a_tower_without_a_rate_stays_frozen(kind: type[Strategy], tiny_backbones: dict[str, BackboneSettings]) -> None:
    for frozen, other in (("vision", "text"), ("text", "vision")):
        towers = {"vision": "backbone.visual.", "text": "backbone.text."}
        names = trained(assembled(quick(kind, **{frozen: 0.0, other: 1.0}), tiny_backbones["vit"]))
        assert not any(name.startswith(towers[frozen]) for name in names)
        assert any(name.startswith(towers[other]) for name in names)
    with pytest.raises(ValueError, match="vision and text: both are 0"):
        quick(kind, vision=0.0, text=0.0)


def test_presets_train_what_their_papers_train(tiny_backbones: dict[str, BackboneSettings]) -> None:
    backbone = tiny_backbones["vit"]
    assert trained(assembled(ProLip(), backbone)) == {
        "backbone.visual.proj", "backbone.text.text_projection", "backbone.logit_scale",
    }  # fmt: skip
    updates = trained(assembled(ClipLora(), backbone)) - {"backbone.logit_scale"}
    assert all(".attn." in name and ".lora_" in name for name in updates)
    assert {name.split(".")[1] for name in updates} == {"visual", "text"}
    everything = assembled(TwoTower(), backbone)
    towers = {name for name, _ in everything.model.backbone.named_parameters()}
    assert trained(everything) == {f"backbone.{name}" for name in towers}
    rates = {item.name: item.train.lr_scale for item in choose(everything.model, everything.phases[0].train)}
    assert {rate for name, rate in rates.items() if name.startswith("backbone.text.")} == {0.1}
    assert {rate for name, rate in rates.items() if name.startswith("backbone.visual.")} == {1.0}
    last = trained(assembled(TwoTower(projection=0.0), backbone))
    assert "backbone.visual.proj" not in last
    assert "backbone.text.text_projection" not in last


def test_the_pull_holds_the_projections(tiny_backbones: dict[str, BackboneSettings]) -> None:
    def moved(pull: float) -> float:
        ready = assembled(quick(ProLip, pull=pull), tiny_backbones["vit"])
        start = ready.model.backbone.visual.proj.detach().clone()  # type: ignore[operator]
        for _ in train(ready.model, ready.phases, loader=ready.loader, budget=Budget(2, 60), seed=3):
            pass
        return float((ready.model.backbone.visual.proj - start).detach().norm())  # type: ignore[operator]

    assert moved(100.0) < moved(0.0) / 3


def test_words_are_left_out_in_training_alone_and_captions_are_few(tiny_backbones: dict[str, BackboneSettings]) -> None:
    strategy = quick(TwoTower, texts={"word_dropout": 0.6, "most": 1})
    ready = assembled(strategy, tiny_backbones["vit"])
    spec, pairs = ready.phases[0].data, ready.context.training_data().pairs(Templates.PHOTO)
    first = {int(row): int(text) for row, text in zip(pairs.row[::-1], pairs.text[::-1], strict=True)}
    assert dict(zip(spec.rows.tolist(), spec.pool.labels.tolist(), strict=True)) == first
    assert len(spec.rows) == len(first) < len(pairs.row)
    read: list[list[str]] = []
    tokenize = ready.model.backbone.tokenize
    ready.model.backbone.tokenize = lambda texts: (read.append(list(texts)), tokenize(texts))[1]  # type: ignore
    batch = ready.loader(0).batch(0)
    for training in (True, True, False):
        torch.manual_seed(0)
        ready.model.train(training)(batch)
    thinned, again, whole = read
    assert whole == [pairs.texts[label] for label in batch.labels.tolist()]
    assert thinned == again
    lengths = [(len(some.split()), len(text.split())) for some, text in zip(thinned, whole, strict=True)]
    assert all(1 <= few <= every for few, every in lengths)
    assert 0.2 < sum(few for few, _ in lengths) / sum(every for _, every in lengths) < 0.6
    assert all(set(some.split()) <= set(text.split()) for some, text in zip(thinned, whole, strict=True))


def test_micro_batches_have_the_gradients_of_the_whole_batch(tiny_backbones: dict[str, BackboneSettings]) -> None:
    found = []
    for micro_batch in (None, 5):
        ready = assembled(quick(TwoTower), tiny_backbones["vit"])
        ready.model.double()
        freeze_all_but(ready.model, choose(ready.model, ready.phases[0].train))
        batch = ready.loader(0).batch(0)
        backward(ready.model.train(), batch, ready.phases[0], micro_batch=micro_batch, group=process_group(), seed=0)
        found.append({name: one.grad for name, one in ready.model.named_parameters() if one.grad is not None})
    whole, parts = found
    assert set(whole) == set(parts)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-9, rtol=1e-6)


@pytest.mark.spawn
def test_two_processes_train_as_one(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> None:
    """Over gloo, in double precision: the weights of one process, and the same bits in both processes.

    Dropout is off: what several processes drop depends on how they share a batch.
    """
    with process_pair(one_of_two, tiny_backbones["vit"], tmp_path):
        alone = weights_of_all(tiny_backbones["vit"])
    assert_one_process_agrees(alone, tmp_path)


@pytest.mark.spawn
def test_two_processes_have_the_loss_and_gradients_of_open_clips_two(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    """Ours beside ClipLoss, which gathers what each process has embedded of its half of the batch."""
    with process_pair(beside_clip_loss, tiny_backbones["vit"], tmp_path):
        pass
    for rank in range(2):
        (ours, gradients), (theirs, expected) = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert ours == pytest.approx(theirs, abs=1e-6)
        assert set(gradients) == set(expected)
        assert any(one.abs().max() > 1e-3 for one in expected.values())
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=0, msg=name)


def beside_clip_loss(rank: int, backbone: BackboneSettings, folder: Path) -> None:
    """Save loss and gradients of a batch without shared captions, by this package and by open_clip's ClipLoss."""
    ready = assembled(quick(TwoTower), backbone)
    model, phase, group = ready.model.double().train(), ready.phases[0], process_group()
    freeze_all_but(model, choose(model, phase.train))
    batch = without_shared(ready)
    found = backward(model, batch, phase, micro_batch=None, group=group, seed=0)
    ours = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad(set_to_none=True)
    half, clip = batch.part(group.part(len(batch.labels))), model.backbone
    texts = [ready.context.training_data().pairs(Templates.PHOTO).texts[label] for label in half.labels.tolist()]
    images = model.forward_trunk(half.inputs, half.aspects).projected
    vectors = (F.normalize(one, dim=1) for one in (images, clip.encode_text(clip.tokenize(texts))))
    assert clip.logit_scale is not None
    loss = ClipLoss(gather_with_grad=True, rank=rank, world_size=2)(*vectors, clip.logit_scale.exp())
    loss.backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad.div_(2))
    theirs = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    torch.save(((found.total.item(), ours), (loss.item(), theirs)), folder / f"{rank}.pt")


def without_shared(ready: Assembled) -> Batch:
    """Eight pairs of a batch, no caption of which describes the image of another."""
    batch, pairs, kept = ready.loader(0).batch(0), ready.context.training_data().pairs(Templates.PHOTO), list[int]()
    known = {(int(row), int(text)) for row, text in zip(pairs.row, pairs.text, strict=True)}
    shown = list(zip(batch.rows.tolist(), batch.labels.tolist(), strict=True))
    for at, (row, text) in enumerate(shown):
        if all((row, shown[i][1]) not in known and (shown[i][0], text) not in known for i in kept):
            kept.append(at)
    assert len(kept) >= 8
    chosen = torch.tensor(kept[:8])
    assert isinstance(batch.inputs, Tensor)
    return Batch(batch.inputs[chosen], batch.labels[chosen], batch.rows[chosen], batch.aspects[chosen])


def weights_of_all(backbone: BackboneSettings) -> dict[str, dict[str, Tensor]]:
    found = {}
    for kind in KINDS:
        undropped = {"dropout": 0.0} if "dropout" in kind.model_fields else {}
        ready = assembled(quick(kind, augment={"shift": 0.01}, **undropped), backbone)
        ready.model.double()
        for _ in train(ready.model, ready.phases, loader=ready.loader, budget=Budget(1, 64), seed=3):
            pass
        found[kind.__name__] = {name: value.clone() for name, value in ready.model.state_dict().items()}
    return found


def one_of_two(rank: int, backbone: BackboneSettings, folder: Path) -> None:
    """Train in a process group of two and save what comes out."""
    torch.save(weights_of_all(backbone), folder / f"{rank}.pt")


def test_strategies_that_learn_classes_are_refused_by_name(tiny_backbones: dict[str, BackboneSettings]) -> None:
    assert serving(Captions()) == ("zero_shot", "two_tower", "clip_lora", "prolip")
    assert tuple(spaces_of(Captions())) == serving(Captions())
    with pytest.raises(ValueError, match="full does not serve the task captions; choose from zero_shot, two_tower"):
        experiment_of(default_of("full"), tiny_backbones["vit"])
    with pytest.raises(ValueError, match="prolip does not serve the task identities"):
        Experiment(strategy=ProLip())
    settings = SweepSettings.parse({"task": {"name": "captions", "objective": "map"}}, source="x")
    assert settings.strategies == serving(Captions())
    assert settings.search.objectives == ("map",)
    with pytest.raises(ValueError, match="full does not serve the task captions"):
        SweepSettings.parse({"task": {"name": "captions"}, "strategies": ["full"]}, source="x")


def test_zero_shot_compares_the_pretrained_towers(tiny_backbones: dict[str, BackboneSettings]) -> None:
    experiment = experiment_of(default_of("zero_shot"), tiny_backbones["vit"])
    (only,) = run(experiment, device=CPU)
    ready = assembled(quick(TwoTower), tiny_backbones["vit"])
    untrained = ready.context.evaluator("val").evaluate(ready.model, ready.context.pixel_inputs)
    assert only.metrics["recall1"] == pytest.approx(untrained.metrics["recall1"])
    assert only.metrics["generic_retention"] == pytest.approx(1, abs=1e-3)
    *_, last = run(experiment_of(quick(ClipLora, vision=0.0), tiny_backbones["vit"]), device=CPU)
    assert last.metrics["generic_retention"] < 0.99, "a text tower forgets, too"
    other = ZeroShot(source=NeckInput.TRUNK)
    with pytest.raises(ValueError, match=r"strategy\.source: texts are compared with projected"):
        assembled(other, tiny_backbones["vit"])


def test_a_long_caption_keeps_its_end_of_text_and_is_counted(tiny_backbones: dict[str, BackboneSettings]) -> None:
    context = open_context(TINY_DATA, tiny_backbones["vit"], CPU, Captions())
    backbone = context.backbone(text=True)
    texts = ["a hand", "hand " * 13 + "hand", "hand " * 14 + "hand", "hand " * 400]
    tokens = backbone.tokenize(texts)
    assert (tokens == tokens.max()).sum(dim=1).tolist() == [1, 1, 1, 1]
    assert tokens[2, -1] == tokens[3, -1] == tokens.max()
    assert backbone.num_cut(texts) == 2
    evaluator = replace(context, device=CPU).evaluator("val")
    model = assembled(quick(ProLip), tiny_backbones["vit"]).model
    scores = evaluator.evaluate(model, context.pixel_inputs)
    assert "captions are longer than what the text tower reads" in scores.files["report.md"]
