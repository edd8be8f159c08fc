"""The one function that runs an experiment, on tiny data before a tiny backbone."""

import copy
from collections import Counter
from dataclasses import replace
from itertools import count

import optuna
import pytest
import torch

from handclip_core.data.inputs import Inputs
from handclip_core.data.sampling import SamplerKind, SamplerSettings
from handclip_core.data.sources import DrawnData
from handclip_core.engine.gradients import backward
from handclip_core.engine.loader import PhaseLoader
from handclip_core.engine.loop import StepReport, train
from handclip_core.engine.optim import choose, freeze_all_but
from handclip_core.engine.phase import Optim
from handclip_core.engine.state import Resume
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.process_group import process_group
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.experiment import Assembled, Experiment, Progress, assemble, run
from handclip_core.strategies import Adapters, Full, LinearProbe, Lora, Sequential, SequentialEWC, Strategy, ZeroShot
from handclip_core.strategies.rates import MOST_TIMES, Rates
from search_spaces.spaces import SPACES

CPU = torch.device("cpu")
DATA = DrawnData(people=12, images_per_aspect=3, height_px=96)
OPTIM = Optim(batch_size=8, lr=1e-3)


@pytest.fixture
def backbone(tiny_backbones: dict[str, BackboneSettings]) -> BackboneSettings:
    return tiny_backbones["vit"]


def experiment_of(strategy: Strategy, backbone: BackboneSettings, *, budget: int = 2, seed: int = 0) -> Experiment:
    values = {"strategy": strategy.model_dump(), "data": DATA, "backbone": backbone, "budget": budget, "seed": seed}
    return Experiment.model_validate(values)


ALL_BLOCKS = 6
"""Stem, three residual blocks, pooling and projection of the tiny transformer."""


class UncachedFeed(Assembled):
    """The same experiment with images everywhere."""

    def inputs(self, phase: int) -> Inputs:
        del phase
        return self.context.pixel_inputs

    def cached_blocks(self, phase: int) -> int:
        del phase
        return 0


def last_point(ready: Assembled) -> StepReport:
    *_, last = train(ready.model, ready.phases, loader=ready.loader, budget=ready.budget, seed=ready.experiment.seed)
    return last


@pytest.mark.parametrize(
    "strategy", [LinearProbe(optim=OPTIM), Full(rates=Rates.PUBLISHED, optim=OPTIM, frozen_blocks=2)]
)
def test_training_on_cached_activations_is_training_on_images(
    strategy: Strategy, tiny_context: ExperimentContext
) -> None:
    experiment = experiment_of(strategy, BackboneSettings())
    cached, plain = (assemble(experiment, tiny_context) for _ in range(2))
    plain = UncachedFeed(**vars(plain))
    assert cached.cached_blocks(0) == (ALL_BLOCKS if isinstance(strategy, LinearProbe) else 2)
    points = [last_point(ready) for ready in (cached, plain)]
    assert points[0].losses == pytest.approx(points[1].losses, rel=1e-4)
    epoch_images, aspects = plain.loader(0).batch(0).inputs, torch.zeros(8, dtype=torch.int64)
    found, expected = (ready.model.eval().embed(epoch_images, aspects) for ready in (cached, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
@pytest.mark.parametrize("strategy", [LinearProbe(), Full(frozen_blocks=2), Lora(last_blocks=1)])
def test_gradients_on_cached_activations_are_those_on_images(
    strategy: Strategy, tower: str, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    context = open_context(DATA, tiny_backbones[tower], CPU)
    found = []
    for kind in (Assembled, UncachedFeed):
        ready = assemble(experiment_of(strategy, tiny_backbones[tower]), context)
        ready = kind(ready.experiment, ready.context, ready.model, ready.phases, ready.budget)
        batch = ready.loader(0).batch(0)
        assert isinstance(batch.inputs, torch.Tensor) == (kind is UncachedFeed)
        freeze_all_but(ready.model, choose(ready.model, ready.phases[0].train))
        backward(ready.model.train(), batch, ready.phases[0], micro_batch=None, group=process_group(), seed=0)
        found.append({name: p.grad for name, p in ready.model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-3, atol=2e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (LinearProbe(), ALL_BLOCKS),
        (LinearProbe.model_validate({"augment": {"brightness": 0.2}}), 0),
        (Full(), 0),
        (Full(frozen_blocks=2), 2),
        (Full(frozen_blocks=ALL_BLOCKS - 1), ALL_BLOCKS - 1),
        (Adapters(), 1),
    ],
)
def test_activations_are_cached_only_where_nothing_could_change_them(
    strategy: Strategy, expected: int, tiny_context: ExperimentContext
) -> None:
    ready = assemble(experiment_of(strategy, BackboneSettings()), tiny_context)
    assert ready.cached_blocks(0) == expected


@pytest.mark.parametrize(("frozen", "projection", "most"), [(ALL_BLOCKS, False, 5), (ALL_BLOCKS - 1, True, 4)])
def test_freezing_everything_is_refused(
    frozen: int, projection: bool, most: int, tiny_context: ExperimentContext
) -> None:
    strategy = Full(frozen_blocks=frozen, frozen_projection=projection)
    with pytest.raises(InputError, match=f"frozen_blocks: {frozen} leaves nothing to train; .* {most} may be frozen"):
        assemble(experiment_of(strategy, BackboneSettings()), tiny_context)


def test_after_the_backbone_has_been_trained_its_cache_is_never_used_again(tiny_context: ExperimentContext) -> None:
    ready = assemble(experiment_of(SequentialEWC(), BackboneSettings()), tiny_context)
    head_only = replace(ready.phases[1], train=ready.phases[1].train[-1:])
    changed = replace(ready, phases=(ready.phases[0], head_only))
    assert changed.cached_blocks(1) == 0
    assert replace(ready, phases=(head_only,)).cached_blocks(0) == ALL_BLOCKS


@pytest.mark.parametrize("seed", range(4))
def test_drawn_rates_reach_the_optimizer_of_a_running_experiment(backbone: BackboneSettings, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    strategy = SPACES["full"](study.ask())
    assert isinstance(strategy, Full)
    running = run(experiment_of(strategy, backbone), device=CPU)
    optimizer = next(running).state.optimizer
    assert optimizer is not None
    # A tower of a few thousand weights gets the most that a rate grows by.
    lr = strategy.optim.lr * MOST_TIMES
    head = [group for group in optimizer.param_groups if group["name"] == "head"]
    last_block = [group for group in optimizer.param_groups if group["name"] == "backbone.visual.proj"]
    assert {group["peak_lr"] for group in head} == {lr * strategy.head_lr_scale}
    assert {group["peak_lr"] for group in last_block} == {lr}
    assert {group["weight_decay"] for group in head if group["params"][0].ndim > 1} == {strategy.optim.weight_decay}
    assert all(0 < group["lr"] <= group["peak_lr"] for group in optimizer.param_groups)
    running.close()


def outcome(experiment: Experiment) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    items: list[Progress] = list(run(experiment, device=CPU))
    return [item.metrics for item in items], {k: v.clone() for k, v in items[-1].state.model.state_dict().items()}


def test_a_result_does_not_depend_on_what_ran_before_in_the_process(backbone: BackboneSettings) -> None:
    experiment = experiment_of(Full(rates=Rates.PUBLISHED, optim=OPTIM), backbone)
    first = outcome(experiment)
    other = run(experiment_of(Adapters(optim=OPTIM), backbone, seed=5), device=CPU)
    next(other)
    other.close()
    torch.rand(17)
    second = outcome(experiment)
    assert first[0] == second[0]
    assert all(torch.equal(value, second[1][name]) for name, value in first[1].items())


def test_a_run_resumed_amid_units_that_one_step_reached_reports_the_rest(backbone: BackboneSettings) -> None:
    epoch_images = assemble(experiment_of(ZeroShot(), backbone), open_context(DATA, backbone, CPU)).budget.epoch_images
    strategy = Full(optim=Optim(batch_size=2 * epoch_images, ema=0.5))
    experiment = experiment_of(strategy, backbone).model_copy(update={"budget": 4})
    whole = [(item.unit, item.images, item.metrics) for item in run(experiment, device=CPU)]
    assert [(unit, images // epoch_images) for unit, images, _ in whole] == [(1, 2), (2, 2), (3, 4), (4, 4)]
    for cut, item in enumerate(run(experiment, device=CPU), start=1):
        state = copy.deepcopy(Resume(item.state.model.state_dict(), item.state.training()))
        rest = [(again.unit, again.images, again.metrics) for again in run(experiment, device=CPU, resume=state)]
        assert rest == whole[cut:]


def test_seconds_of_all_phases_that_a_unit_spans_are_counted(backbone: BackboneSettings) -> None:
    """Four phases in one unit: with a clock that moves a second at each look, as many seconds as steps."""
    experiment = experiment_of(Sequential(optim=OPTIM), backbone, budget=1)
    clock, processors = count(), count(step=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("handclip_core.engine.loop.time.perf_counter", lambda: next(clock))
        patch.setattr("handclip_core.engine.loop.time.process_time", lambda: next(processors))
        (only,) = run(experiment, device=CPU)
    assert only.train_s == only.images // 8
    assert only.cpu_s == 3 * only.train_s


def test_the_seed_matters(backbone: BackboneSettings) -> None:
    results = [
        outcome(experiment_of(Full(rates=Rates.PUBLISHED, optim=OPTIM), backbone, seed=seed))[1] for seed in (0, 1)
    ]
    assert not torch.equal(results[0]["head.weight"], results[1]["head.weight"])


def test_training_never_sees_validation_or_test_people(tiny_context: ExperimentContext) -> None:
    people = tiny_context.identities
    trained = set(people[tiny_context.training_data().rows])
    for split in ("val", "test"):
        assert not trained & set(people[tiny_context.rows(split)])
    both = set(people[tiny_context.training_data("train_all").rows])
    assert both == trained | set(people[tiny_context.rows("val")])


def test_feeds_differ_by_seed_and_phase(tiny_context: ExperimentContext) -> None:
    ready = assemble(experiment_of(SequentialEWC(), BackboneSettings()), tiny_context)
    other = replace(ready, experiment=ready.experiment.model_copy(update={"seed": 1}))

    def rows(loader: PhaseLoader) -> list[int]:
        return loader.batch(0).rows.tolist()

    assert rows(ready.loader(0)) != rows(other.loader(0))
    assert rows(ready.loader(0)) != rows(ready.loader(1))


def test_batches_of_whole_people(tiny_context: ExperimentContext) -> None:
    strategy = Full(rates=Rates.PUBLISHED, optim=OPTIM, sampler=SamplerSettings(kind=SamplerKind.PK, images_each=2))
    labels = assemble(experiment_of(strategy, BackboneSettings()), tiny_context).loader(0).batch(0).labels
    assert sorted(Counter(labels.tolist()).values()) == [2, 2, 2, 2]


def test_one_aspect_alone(backbone: BackboneSettings) -> None:
    data = DrawnData.model_validate(DATA.model_dump() | {"aspects": ["palmar left"]})
    values = {"strategy": Full(rates=Rates.PUBLISHED, optim=OPTIM), "data": data, "backbone": backbone, "budget": 1}
    experiment = Experiment.model_validate(values)
    context = open_context(experiment.data, experiment.backbone, CPU)
    shown = set(context.prepared.manifest["aspect"].iloc[context.training_data().rows])
    assert shown == {"palmar left"}
    assert next(run(experiment, device=CPU)).metrics["map"] > 0
