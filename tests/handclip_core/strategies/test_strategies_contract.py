"""What every strategy must keep, on a transformer and on a ResNet; a new one is covered by being in ALL.

Those that do not serve the task identities have a contract of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from handclip_core.data.sampling import SamplerKind, SamplerSettings
from handclip_core.data.sources import DrawnData
from handclip_core.engine.gradients import backward
from handclip_core.engine.loader import PhaseLoader
from handclip_core.engine.loop import Budget, train
from handclip_core.engine.optim import choose, freeze_all_but
from handclip_core.engine.phase import Optim
from handclip_core.engine.plan import plan
from handclip_core.losses.settings import Losses
from handclip_core.models.backbone import BackboneSettings
from handclip_core.process_group import process_group
from handclip_core.reports.measure import View
from handclip_core.reports.report import evaluate_run
from handclip_core.runs.context import open_context
from handclip_core.runs.drive import Report, drive
from handclip_core.runs.experiment import Assembled, Experiment, assemble, run
from handclip_core.runs.run_folder import RunFolder, load_run
from handclip_core.strategies import ALL, AnyStrategy, Full, LinearProbe, Strategy
from handclip_core.tasks import IDENTITIES
from handclip_core.types import Batch, Encoded
from search_spaces.spaces import SPACES, params_of
from tests.process_pair import assert_one_process_agrees, process_pair

CPU = torch.device("cpu")
DATA = DrawnData(people=12, images_per_aspect=3, height_px=96)
BUDGET = 4
BACKBONES = ("vit", "resnet")
SERVING = tuple(kind for kind in ALL if isinstance(IDENTITIES, kind.tasks))
TRAINED = tuple(kind for kind in SERVING if kind.trains)

EVERY_LOSS: dict[str, Any] = {
    "identity": {"kind": "arcface", "smoothing": 0.1},
    **{name: {"weight": 0.1} for name in ("triplet", "circle", "contrastive", "center", "image_text")},
    "memory": 16,
}

Weights = dict[str, Tensor]
every_strategy = pytest.mark.parametrize("kind", SERVING, ids=lambda kind: kind.__name__)
trained_strategies = pytest.mark.parametrize("kind", TRAINED, ids=lambda kind: kind.__name__)
both_towers = pytest.mark.parametrize("tower", BACKBONES)


def experiment_of(strategy: Strategy, backbone: BackboneSettings) -> Experiment:
    values = {"strategy": strategy.model_dump(), "data": DATA, "backbone": backbone, "budget": BUDGET, "seed": 3}
    return Experiment.model_validate(values)


def quick(kind: type[Strategy]) -> Strategy:
    """The strategy with its defaults, but batches that fit the tiny data and an information matrix of few images."""
    changes: dict[str, object] = {}
    if "optim" in kind.model_fields:
        changes["optim"] = {**kind().model_dump()["optim"], "batch_size": 8, "lr": 1e-3}  # type: ignore[call-arg]
    if "rates" in kind.model_fields:
        changes["rates"] = "published"
    if "fisher_samples" in kind.model_fields:
        changes["fisher_samples"] = 3
    return kind.model_validate(changes)


@dataclass(frozen=True)
class WholeRun:
    """A run from its beginning to its end, saved at every unit: checkpoint n beside ``folder`` is of the n-th item."""

    experiment: Experiment
    folder: RunFolder
    reports: list[Report]
    weights: Weights

    def checkpoint(self, number: int) -> Path:
        return self.folder.folder.parent / f"checkpoint{number}"


def whole_run(experiment: Experiment, parent: Path) -> WholeRun:
    driven, whole = drive(experiment, parent / "run", device=CPU), []
    for number, report in enumerate(driven, start=1):
        driven.keep()
        driven.save(parent / f"checkpoint{number}")
        whole.append(report)
    weights = {name: value.clone() for name, value in driven.model.state_dict().items()}
    return WholeRun(experiment, driven.record, whole, weights)


def kind_of(case: WholeRun) -> type[Strategy]:
    return type(case.experiment.strategy)


WHOLE_RUNS = [
    pytest.param(
        (kind, tower),
        id=f"{tower}-{kind.__name__}",
        marks=[] if tower == BACKBONES[number % len(BACKBONES)] else [pytest.mark.faults],
    )
    for number, kind in enumerate((*TRAINED, *(kind for kind in SERVING if kind not in TRAINED)))
    for tower in BACKBONES
]
"""A whole run of each strategy on each tower, every run of the tests on one of both in turn; pytest makes one for all
tests that read the same item of this list."""
every_whole_run = pytest.mark.parametrize("finished", WHOLE_RUNS, indirect=True, scope="module")
trained_whole_runs = pytest.mark.parametrize(
    "finished", WHOLE_RUNS[: len(TRAINED) * len(BACKBONES)], indirect=True, scope="module"
)


@pytest.fixture(scope="module")
def finished(
    request: pytest.FixtureRequest,
    tiny_backbones: dict[str, BackboneSettings],
    tmp_path_factory: pytest.TempPathFactory,
) -> WholeRun:
    kind, tower = request.param
    return whole_run(experiment_of(quick(kind), tiny_backbones[tower]), tmp_path_factory.mktemp("whole"))


@every_strategy
def test_settings_survive_json(kind: type[Strategy]) -> None:
    adapter: TypeAdapter[Strategy] = TypeAdapter(AnyStrategy)
    strategy = quick(kind)
    assert adapter.validate_json(strategy.model_dump_json()) == strategy


@every_strategy
def test_every_setting_is_explained(kind: type[Strategy]) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []
    assert kind.__doc__


@every_whole_run
def test_reports_every_unit_of_its_budget(finished: WholeRun) -> None:
    experiment, progress, kind = finished.experiment, finished.reports, kind_of(finished)
    ready = assemble(experiment, open_context(DATA, experiment.backbone, CPU))
    assert [item.unit for item in progress] == ([0] if kind not in TRAINED else list(range(1, BUDGET + 1)))
    assert [item.unit for item in progress if item.evaluated] == (
        [0] if kind not in TRAINED else evaluated_units(ready)
    )
    assert all(0 <= item.metrics["map"] <= 1 for item in progress if item.evaluated)
    if kind in TRAINED:
        assert progress[-1].unit == BUDGET
        assert progress[-1].images >= BUDGET * ready.budget.epoch_images


def evaluated_units(ready: Assembled) -> list[int]:
    """All units, but those that a phase reaches in which nothing can move retrieval."""
    epoch = ready.budget.epoch_images
    units: list[int] = []
    for phase, span in zip(ready.phases, plan(ready.phases, budget=BUDGET, epoch_images=epoch), strict=True):
        end = span.start_images + span.num_steps * phase.data.sampler.batch_size
        if phase.evaluate:
            last = BUDGET if phase is ready.phases[-1] else BUDGET - 1
            units += [unit for unit in range(1, last + 1) if span.start_images < unit * epoch <= end]
    return units


@trained_whole_runs
def test_trains_what_it_says_and_nothing_else(finished: WholeRun) -> None:
    experiment, after = finished.experiment, finished.weights
    ready = assemble(experiment, open_context(DATA, experiment.backbone, CPU))
    before = {name: value.clone() for name, value in ready.model.state_dict().items()}
    said = {item.name for phase in ready.phases for item in choose(ready.model, phase.train)}
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    parameters = {name for name, _ in ready.model.named_parameters()}
    changed = moved & parameters
    assert changed <= said
    assert not {name for name in moved - parameters if name.startswith(("backbone.", "experts."))}, "frozen statistics"
    unused = {name for name in said - changed if before[name].ndim > 1}
    assert not unused, "trained, but never moved"


@trained_whole_runs
def test_a_run_resumed_from_any_unit_ends_bit_for_bit_the_same(finished: WholeRun, tmp_path: Path) -> None:
    on_the_resnet = finished.experiment.backbone.pretrained != "random"
    resumes_from_checkpoints(finished, tmp_path, cuts=[len(finished.reports) // 2] if on_the_resnet else ())


def test_averages_memories_and_centres_resume_too(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> None:
    strategy = quick(Full).model_copy(
        update={
            "optim": Optim(batch_size=8, lr=1e-3, ema=0.9),
            "sampler": SamplerSettings(kind=SamplerKind.CROSS_ASPECT, images_each=2),
            "losses": Losses.model_validate({"contrastive": {"weight": 1}, "center": {"weight": 0.01}, "memory": 20}),
        }
    )
    resumes_bit_for_bit(experiment_of(strategy, tiny_backbones["vit"]), tmp_path)


def resumes_bit_for_bit(experiment: Experiment, tmp_path: Path) -> None:
    """Save at every unit of a run; from each of these states the rest is the same again, and so are the weights."""
    resumes_from_checkpoints(whole_run(experiment, tmp_path), tmp_path)


def resumes_from_checkpoints(case: WholeRun, tmp_path: Path, cuts: Sequence[int] = ()) -> None:
    """From those that are named, else from all."""
    whole = case.reports
    assert len(whole) > 1
    for cut in cuts or range(1, len(whole)):
        again = drive(case.experiment, tmp_path / f"resumed{cut}", device=CPU, resume=case.checkpoint(cut))
        assert [row.get("map") for row in again.record.log] == [item.metrics.get("map") for item in whole[:cut]]
        rest = list(again)
        assert [item.unit for item in rest] == [item.unit for item in whole[cut:]]
        assert [item.metrics for item in rest] == [item.metrics for item in whole[cut:]]
        assert [item.best for item in rest] == [item.best for item in whole[cut:]]
        final = again.model.state_dict()
        assert all(torch.equal(case.weights[name], value) for name, value in final.items())


@every_whole_run
def test_a_finished_folder_gives_the_same_figures_again(finished: WholeRun) -> None:
    folder = finished.folder
    checkpoint = folder.kept_checkpoint()
    assert checkpoint is not None
    folder.finish(checkpoint=checkpoint, device=CPU)
    measured = evaluate_run(folder.folder, device=CPU, view=View("val")).values
    assert measured["scores"]["overall"]["map"]["mean"] == pytest.approx(folder.best["map"], abs=1e-4)
    assert not load_run(folder.folder, device=CPU).training


@every_strategy
@both_towers
def test_its_default_lies_in_its_search_space_and_a_draw_runs_an_epoch(
    kind: type[Strategy], tower: str, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    name = kind.model_fields["name"].default
    assert params_of(kind()) is not None  # type: ignore[call-arg]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=BACKBONES.index(tower)))
    experiment = experiment_of(SPACES[name](study.ask()), tiny_backbones[tower])
    first = next(progress for progress in run(experiment, device=CPU) if progress.evaluated)
    assert first.metrics["map"] > 0


@trained_strategies
@pytest.mark.parametrize("draws", [6, pytest.param(100, marks=pytest.mark.faults)])
def test_draws_build_and_train_a_step_of_every_phase_with_finite_gradients(
    kind: type[Strategy], tiny_backbones: dict[str, BackboneSettings], draws: int
) -> None:
    """Every other one on the transformer, and on the ResNet."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    for number in range(draws):
        tower = BACKBONES[number % len(BACKBONES)]
        context = open_context(DATA, tiny_backbones[tower], CPU)
        strategy = SPACES[kind.model_fields["name"].default](study.ask())
        ready = assemble(experiment_of(strategy, tiny_backbones[tower]), context)
        for index, phase in enumerate(ready.phases):
            chosen = choose(ready.model, phase.train)
            freeze_all_but(ready.model, chosen)
            ready.model.zero_grad()
            found = backward(
                ready.model.train(),
                ready.loader(index).batch(0),
                phase,
                micro_batch=None,
                group=process_group(),
                seed=0,
            )
            assert found.total.isfinite()
            gradients = [item.parameter.grad for item in chosen if item.parameter.grad is not None]
            assert gradients
            assert all(gradient.isfinite().all() for gradient in gradients)


@trained_strategies
def test_every_loss_trains_every_strategy(kind: type[Strategy], tiny_backbones: dict[str, BackboneSettings]) -> None:
    changes = quick(kind).model_dump() | {"losses": EVERY_LOSS, "sampler": {"kind": "pk", "images_each": 4}}
    strategy = kind.model_validate(changes | {"finetune_share": 0.5} if kind is LinearProbe else changes)
    ready = assemble(experiment_of(strategy, tiny_backbones["vit"]), open_context(DATA, tiny_backbones["vit"], CPU))
    trained: set[str] = set()
    for index, phase in enumerate(ready.phases):
        freeze_all_but(ready.model, choose(ready.model, phase.train))
        batch = ready.loader(index).batch(0)
        output = ready.model.train()(batch)
        values = {term.name: term.loss(output, batch) for term in phase.terms}
        assert all(value.isfinite() for value in values.values())
        trained |= {name.split("_projected")[0].split("_trunk")[0] for name, v in values.items() if v.requires_grad}
    assert trained >= {"identity", "triplet", "circle", "contrastive", "center", "image_text"}


@pytest.mark.spawn
def test_two_processes_train_every_strategy_as_one(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> None:
    """Over gloo, in double precision: the weights of one process, and the same bits in both processes."""
    with process_pair(one_of_two, tiny_backbones["vit"], tmp_path):
        alone = weights_of_each(TRAINED, tiny_backbones["vit"])
    assert_one_process_agrees(alone, tmp_path)


def weights_of_each(kinds: Sequence[type[Strategy]], backbone: BackboneSettings) -> dict[str, Weights]:
    """Of some strategies, after all of their phases."""
    context = open_context(DATA, backbone, CPU)
    found = {}
    for kind in kinds:
        ready = assemble(experiment_of(quick(kind), backbone), context)
        ready.model.double()
        budget = Budget(units=1, epoch_images=64)
        feeds = [DoubleFeed(ready.loader(index)) for index in range(len(ready.phases))]
        phases = tuple(replace(phase, evaluation_point=False) for phase in ready.phases)
        for _ in train(ready.model, phases, loader=feeds.__getitem__, budget=budget, seed=3):
            pass
        found[kind.__name__] = {name: value.clone() for name, value in ready.model.state_dict().items()}
    return found


@dataclass(frozen=True)
class DoubleFeed:
    """The batches of ``loader`` with cached activations in double precision; images follow the model by themselves."""

    loader: PhaseLoader

    def batch(self, step: int) -> Batch:
        given = self.loader.batch(step)
        if isinstance(given.inputs, Encoded):
            return replace(given, inputs=given.inputs.map(torch.Tensor.double))
        return given


def one_of_two(rank: int, backbone: BackboneSettings, folder: Path) -> None:
    """Train in a process group of two and save what comes out."""
    torch.save(weights_of_each(TRAINED, backbone), folder / f"{rank}.pt")
