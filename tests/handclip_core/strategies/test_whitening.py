"""Closed forms in runs: what they gain, and that they are part of the model wherever it goes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handclip_core.engine.gradients import backward
from handclip_core.engine.optim import choose, freeze_all_but
from handclip_core.evaluation.embed import embed
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.process_group import process_group
from handclip_core.reports.measure import View
from handclip_core.reports.report import evaluate_run
from handclip_core.runs import closed_forms
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.experiment import Assembled, Experiment, assemble, run
from handclip_core.runs.run_folder import BEST, load_run
from handclip_core.runs.soups import Ingredient, mixture
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
WCCN: dict[str, Any] = {"kind": "wccn", "shrinkage": 0.1}
READ: dict[str, Any] = {"source": "blocks", "readout": {"depths": [0.5, 1.0], "pool": "grid", "grid": 2}}
FULL: dict[str, Any] = {
    "name": "full",
    "optim": {"batch_size": 12, "lr": 1e-3},
    "rates": "published",
    "neck": {**READ, "metric": WCCN},
}
WHITENING: dict[str, Any] = {"name": "whitening", "neck": {**READ, "metric": WCCN}}


def experiment(strategy: dict[str, Any], backbone: BackboneSettings, **changes: Any) -> Experiment:
    values = {"strategy": strategy, "data": TINY_DATA, "backbone": backbone, "budget": 2, "seed": 3, **changes}
    return Experiment.model_validate(values)


def test_on_the_small_clip_it_beats_what_it_stands_on() -> None:
    data = {"source": "drawn", "people": 20, "images_per_aspect": 3, "sittings": 3, "height_px": 96}
    found = {}
    for strategy in ({"name": "zero_shot"}, {"name": "whitening"}):
        (only,) = run(Experiment.model_validate({"strategy": strategy, "data": data}), device=CPU)
        found[strategy["name"]] = only.metrics["map"]
    assert found["whitening"] > found["zero_shot"] + 0.02


@pytest.mark.parametrize("tower", ["vit", "resnet"])
@pytest.mark.parametrize("strategy", [WHITENING, FULL], ids=["whitening", "full"])
@pytest.mark.parametrize("kind", ["lda", "plda"])
def test_a_saved_run_gives_its_figures_again(
    tmp_path: Path, tiny_backbones: dict[str, BackboneSettings], strategy: dict[str, Any], tower: str, kind: str
) -> None:
    neck = {**READ, "metric": {"kind": kind, "shrinkage": 0.3, "vectors": "all"}}
    folder = train_into(tmp_path / "run", experiment({**strategy, "neck": neck}, tiny_backbones[tower]), device=CPU)
    report = evaluate_run(tmp_path / "run", device=CPU, view=View("val"))
    assert report.values["scores"]["overall"]["map"]["mean"] == pytest.approx(folder.best["map"], abs=1e-6)
    assert load_run(tmp_path / "run", device=CPU).metric.shrinkages() == pytest.approx((0.3, 0.3))


def test_what_its_default_chooses_is_saved(tmp_path: Path, tiny_backbones: dict[str, BackboneSettings]) -> None:
    record = train_into(tmp_path / "run", experiment({"name": "whitening"}, tiny_backbones["resnet"]), device=CPU)
    report = evaluate_run(tmp_path / "run", device=CPU, view=View("val"))
    assert report.values["scores"]["overall"]["map"]["mean"] == pytest.approx(record.best["map"], abs=1e-6)
    model = load_run(tmp_path / "run", device=CPU)
    shares = dict(zip(model.neck.vectors, model.metric.shares(), strict=True))
    assert sum(shares.values()) == pytest.approx(1)
    assert {"projected", "trunk", "block 1, 1 x 1"} <= shares.keys()
    assert 0 < sum(share > 0 for share in shares.values()) < len(shares)


def ready_of(strategy: dict[str, Any], context: ExperimentContext) -> Assembled:
    return assemble(experiment(strategy, context.settings), context)


@pytest.mark.parametrize("frozen", [0, 2, 3])
def test_cached_activations_begin_no_later_than_what_is_read(tiny_context: ExperimentContext, frozen: int) -> None:
    ready = ready_of({**FULL, "frozen_blocks": frozen}, tiny_context)
    rows = tiny_context.rows("val")
    found = [
        embed(ready.model, inputs, rows, aspects=tiny_context.aspect_indices, device=CPU)
        for inputs in (ready.inputs(0), tiny_context.pixel_inputs)
    ]
    torch.testing.assert_close(*found)


def test_a_batch_in_parts_has_the_same_gradients(tiny_context: ExperimentContext) -> None:
    found = []
    for micro_batch in (None, 5):
        ready = ready_of({**FULL, "losses": {"triplet": {"weight": 1.0}}, "sampler": {"kind": "pk"}}, tiny_context)
        ready.model.double().train()
        freeze_all_but(ready.model, choose(ready.model, ready.phases[0].train))
        batch = ready.loader(0).batch(0)
        backward(ready.model, batch, ready.phases[0], micro_batch=micro_batch, group=process_group(), seed=0)
        found.append({name: p.grad for name, p in ready.model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-7, atol=1e-9)


def test_the_metric_is_fitted_again_whenever_the_weights_have_moved(tiny_context: ExperimentContext) -> None:
    means = []
    for progress in run(experiment(FULL, tiny_context.settings), device=CPU):
        model = progress.state.model
        rows = tiny_context.training_data().rows
        means.append(model.get_buffer("metric.parts.1.mean").clone())
        mapped = embed(
            model,  # type: ignore[arg-type]
            tiny_context.pixel_inputs,
            rows,
            aspects=tiny_context.aspect_indices,
            device=CPU,
        ).numpy()
        # Within classes, what it maps varies about as much in every direction.
        names = tiny_context.identities[rows] + tiny_context.prepared.manifest["aspect"].to_numpy(dtype=str)[rows]
        assert len(set(names)) < len(mapped)
        assert np.isfinite(mapped).all()
    assert not torch.equal(*means)


def test_people_of_validation_have_no_part_in_it(tiny_context: ExperimentContext) -> None:
    few, all_ = (
        next(run(experiment(WHITENING, tiny_context.settings, part=part), device=CPU)).state.model
        for part in ("train", "train_all")
    )
    assert few.get_buffer("metric.parts.0.matrix").shape[1] < all_.get_buffer("metric.parts.0.matrix").shape[1]


def test_a_mixture_has_the_metric_of_its_own_weights(
    tmp_path: Path, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    runs = []
    for seed in (1, 2):
        settings = experiment(FULL, tiny_backbones["vit"], seed=seed)
        folder = train_into(tmp_path / str(seed), settings, device=CPU)
        runs.append(Ingredient(str(seed), settings, folder.folder / BEST))
    model = mixture(runs, device=CPU)
    context = open_context(TINY_DATA, tiny_backbones["vit"], CPU)
    labelled = runs[0].experiment.strategy.metric_labels(context.training_data())
    shown = context.pixel_inputs.of(labelled.rows, device=CPU)
    aspects = torch.from_numpy(context.aspect_indices[labelled.rows])
    with torch.no_grad():
        vectors = model.vectors(shown, aspects)
    parts = [part / part.norm(dim=1, keepdim=True) for part in vectors.split(list(model.metric.widths), dim=1)]
    for number, part in enumerate(parts):
        torch.testing.assert_close(model.get_buffer(f"metric.parts.{number}.mean"), part.mean(dim=0), atol=1e-5, rtol=0)


def test_verification_goes_by_the_likelihood_ratio(tmp_path: Path, tiny_context: ExperimentContext) -> None:
    neck = {**READ, "metric": {"kind": "plda", "shrinkage": 0.3}}
    settings = experiment({"name": "whitening", "neck": neck}, tiny_context.settings)
    train_into(tmp_path / "run", settings, device=CPU)
    report = evaluate_run(tmp_path / "run", device=CPU, view=View("val"))
    model, rows = load_run(tmp_path / "run", device=CPU), tiny_context.rows("val")
    units = embed(model, tiny_context.pixel_inputs, rows, aspects=tiny_context.aspect_indices, device=CPU)
    scores = model.metric.similarity(units, units)
    aspects, who = tiny_context.aspect_indices[rows], tiny_context.identities[rows]
    genuine: list[float] = []
    impostor: list[float] = []
    for one in range(len(rows)):
        for other in range(one):
            if aspects[one] == aspects[other]:
                (genuine if who[one] == who[other] else impostor).append(scores[one, other].item())
    above = np.greater.outer(genuine, impostor).mean() + 0.5 * np.equal.outer(genuine, impostor).mean()
    assert report.values["verification"]["auc"] == pytest.approx(above, abs=1e-4)


def test_of_too_many_numbers_whole_identities_are_fitted_to(
    tiny_context: ExperimentContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = ready_of(WHITENING, tiny_context)
    labelled = ready.experiment.strategy.metric_labels(tiny_context.training_data())
    seen: list[tuple[int, int]] = []

    def fit(vectors: Any, labels: Any, people: Any) -> None:
        seen.append((len(vectors), len(set(people))))
        assert len(labels) == len(people) == len(vectors)

    monkeypatch.setattr(ready.model.metric, "fit", fit)
    for num in (len(labelled.rows), len(labelled.rows) - 1):
        monkeypatch.setattr(closed_forms, "MOST_NUMBERS", num * sum(ready.model.metric.widths))
        closed_forms.fit_metric(
            ready.model, ready.experiment.strategy, ready.inputs(-1), tiny_context, ready.experiment.part
        )
    (every, all_people), (fewer, others) = seen
    assert every == len(labelled.rows)
    assert others == all_people - 1
    assert fewer < every
