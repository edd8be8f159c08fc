"""The task on drawn hands before a tiny backbone: what the head begins as, which strategies serve it, a whole run."""

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from handclip_core.errors import InputError
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.reports.measure import View
from handclip_core.reports.report import compare_runs, evaluate_run
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, assemble, context_of, run
from handclip_core.strategies import serving
from handclip_core.tasks.classes.names import TEMPLATES
from handclip_core.tasks.classes.scores import ClassScores
from handclip_core.tasks.classes.task import Classes
from handclip_core.types import Templates
from search_spaces.by_task import spaces_of
from search_spaces.spaces import default_of, params_of
from tests.conftest import TINY_DATA
from tune_jobs.config.settings import SweepSettings

CPU = torch.device("cpu")
NAMES = [
    "the back of a right hand", "the back of a left hand", "the palm of a right hand", "the palm of a left hand",
]  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tiny_backbones: dict[str, BackboneSettings]) -> BackboneSettings:
    return tiny_backbones["vit"]


def experiment(backbone: BackboneSettings, strategy: dict[str, object], **changes: object) -> Experiment:
    values = {"task": {"name": "classes"}, "strategy": strategy, "data": TINY_DATA, "backbone": backbone, "budget": 2}
    return Experiment.model_validate(values | changes)


def by_hand(context: ExperimentContext, templates: Sequence[str]) -> np.ndarray:
    """What the images are, by the cosines of image and texts."""
    backbone = context.backbone(text=True)
    with torch.no_grad():
        images = F.normalize(backbone(context.pixel_inputs.of(context.rows("val"), device=CPU)).projected, dim=1)
        columns = []
        for name in NAMES:
            texts = [one.format(name) for one in templates]
            units = F.normalize(backbone.encode_text(backbone.tokenize(texts)), dim=1)
            columns.append(images @ F.normalize(units.mean(dim=0), dim=0))
    return torch.stack(columns, dim=1).argmax(dim=1).numpy()


@pytest.mark.parametrize("templates", list(Templates))
@pytest.mark.parametrize("name", ["zero_shot", "full", "linear_probe", "two_tower", "clip_lora", "prolip"])
def test_every_head_begins_as_the_zero_shot_classifier(
    backbone: BackboneSettings, name: str, templates: Templates
) -> None:
    wanted = experiment(backbone, {"name": name, "templates": templates})
    context = context_of(wanted, CPU)
    found = context.evaluator("val").evaluate(assemble(wanted, context).model, context.pixel_inputs)
    assert isinstance(found, ClassScores)
    assert np.array_equal(found.predicted, by_hand(context, TEMPLATES[templates]))
    manifest = context.prepared.manifest.iloc[context.rows("val")]
    shown = [
        f"the {'back' if one.startswith('dorsal') else 'palm'} of a {one.split()[1]} hand" for one in manifest["aspect"]
    ]
    assert [found.names[label] for label in found.truth] == shown


def test_templates_of_a_file_stand_for_ours_and_judge_the_towers(backbone: BackboneSettings, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("a drawing of {}\n\n{} on a table, {not} a foot\n", encoding="utf-8")
    task = {"name": "classes", "templates": str(tmp_path / "own.txt")}
    wanted = experiment(backbone, {"name": "zero_shot", "templates": "many"}, task=task)
    assert Experiment.model_validate_json(wanted.model_dump_json()) == wanted, "the sentences travel with the settings"
    context = context_of(wanted, CPU)
    (only,) = run(wanted, device=CPU)
    found = by_hand(context, ("a drawing of {}", "{} on a table, {{not}} a foot"))
    right = found == context.evaluator("val").truth  # type: ignore[attr-defined]
    assert only.metrics["accuracy"] == only.metrics["zero_shot_accuracy"] == pytest.approx(right.mean())
    tuned = assemble(experiment(backbone, {"name": "prolip", "templates": "many"}, task=task), context).model
    assert np.array_equal(context.evaluator("val").evaluate(tuned, context.pixel_inputs).answers, found)
    assert not np.array_equal(found, by_hand(context, TEMPLATES[Templates.MANY]))


@pytest.mark.parametrize(
    ("templates", "message"),
    [(["a photo"], "'a photo' must have {} once"), (["{} {}"], "must have {} once"), ("gone.txt", "gone.txt: no such")],
)
def test_templates_without_a_place_for_the_name_are_refused(templates: object, message: str) -> None:
    assert_refused(templates, message)


def test_a_file_without_templates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00{}")
    assert_refused(str(tmp_path / "empty.txt"), "holds no sentence")
    assert_refused(str(tmp_path / "binary.txt"), "is no text in UTF-8")
    assert_refused(str(tmp_path), str(tmp_path))


def assert_refused(templates: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Classes.parse({"name": "classes", "templates": templates}, source="task")


def test_zero_shot_retains_all_of_itself_and_trained_heads_are_scored_beside_it(backbone: BackboneSettings) -> None:
    (only,) = run(experiment(backbone, {"name": "zero_shot", "templates": "many"}), device=CPU)
    assert only.metrics["retention"] == 1
    assert only.metrics["generic_retention"] == pytest.approx(1, abs=1e-3)
    assert only.metrics["accuracy"] == only.metrics["zero_shot_accuracy"]
    *_, last = run(experiment(backbone, {"name": "full", "optim": {"lr": 3e-3, "batch_size": 8}}), device=CPU)
    assert {"accuracy", "macro_f1", "top5", "calibration_error", "zero_shot_accuracy"} <= set(last.metrics)
    assert last.metrics["generic_retention"] < 0.99


@pytest.mark.parametrize("kind", ["pk", "confusable"])
def test_confusable_classes_are_held_apart_by_mined_triplets(backbone: BackboneSettings, kind: str) -> None:
    mined: dict[str, object] = {"name": "full", "losses": {"triplet": {"weight": 1.0, "mining": "hard"}}}
    mined |= {"sampler": {"kind": kind, "images_each": 2}, "optim": {"batch_size": 8}}
    *_, last = run(experiment(backbone, mined, budget=1), device=CPU)
    assert last.losses["triplet"] > 0


def test_batches_hold_the_classes_that_the_pretrained_tower_sees_as_alike(backbone: BackboneSettings) -> None:
    alike = {"kind": "confusable", "images_each": 2}
    strategy: dict[str, object] = {"name": "full", "sampler": alike, "optim": {"batch_size": 4}}
    wanted = experiment(backbone, strategy)
    context = context_of(wanted, CPU)
    rows = context.training_data().rows
    with torch.no_grad():
        images = context.backbone()(context.pixel_inputs.of(rows, device=CPU)).projected
    shown = context.prepared.manifest["aspect"].iloc[rows].to_numpy()
    means = {one: F.normalize(F.normalize(images, dim=1)[shown == one].mean(dim=0), dim=0) for one in set(shown)}
    loader = assemble(wanted, context).loader(0)
    for step in range(8):
        drawn = context.prepared.manifest["aspect"].iloc[loader.batch(step).rows.tolist()].tolist()
        assert drawn[0] == drawn[1] != drawn[2] == drawn[3]
        others = [one for one in means if one != drawn[0]]
        assert drawn[2] == max(others, key=lambda one: float(means[drawn[0]] @ means[one]))


def test_strategies_for_identities_alone_are_refused_by_name(backbone: BackboneSettings) -> None:
    assert "cross_view" not in serving(Classes())
    with pytest.raises(ValueError, match="cross_view does not serve the task classes; choose from zero_shot"):
        experiment(backbone, {"name": "cross_view"})
    with pytest.raises(InputError, match="clip_reid does not serve the task classes; choose from zero_shot"):
        SweepSettings.parse({"task": {"name": "classes"}, "strategies": ["clip_reid"]}, source="x")
    with pytest.raises(InputError, match=r"strategy\.labels: person is for the task identities"):
        next(run(experiment(backbone, {"name": "full", "labels": "person"}), device=CPU))
    own = TINY_DATA.model_dump() | {"gallery": "own"}
    with pytest.raises(InputError, match="aspects, gallery, enrolled and distance are for the task identities"):
        context_of(experiment(backbone, {"name": "zero_shot"}, data=own), CPU)


def test_every_space_holds_its_default_and_serves_the_task() -> None:
    spaces = spaces_of(Classes())
    assert set(spaces) <= set(serving(Classes()))
    assert all(params_of(default_of(name), spaces) for name in spaces)
    settings = SweepSettings.parse({"task": {"name": "classes", "objective": "macro_f1"}}, source="x")
    assert settings.strategies == tuple(spaces)
    assert settings.search.objectives == ("macro_f1",)


def test_a_run_is_saved_and_evaluated_with_a_report_by_class(backbone: BackboneSettings, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record = train_into(folder, experiment(backbone, {"name": "linear_probe"}), device=CPU)
    report = evaluate_run(folder, device=CPU, view=View("val"))
    assert report.values["metrics"]["accuracy"] == pytest.approx(record.best["accuracy"])
    assert "accuracy" in report.text
    assert NAMES[0] in (folder / "evaluation_val_report.csv").read_text()
    assert (folder / "evaluation_val_confusion.csv").exists()
    with pytest.raises(InputError, match="the task classes has no galleries"):
        evaluate_run(folder, device=CPU, view=View("val", flip=True))


def test_runs_are_compared_by_what_is_published_of_methods(backbone: BackboneSettings, tmp_path: Path) -> None:
    probe, full = tmp_path / "probe", tmp_path / "full"
    wanted = experiment(backbone, {"name": "linear_probe", "optim": {"lr": 0.1, "batch_size": 8}})
    train_into(probe, wanted, device=CPU)
    train_into(full, experiment(backbone, {"name": "full", "optim": {"lr": 3e-3, "batch_size": 8}}), device=CPU)
    found = compare_runs([probe, full], device=CPU, view=View("val"), keep=True)
    table = pd.read_csv(StringIO(found.csv), index_col="method")
    context = context_of(wanted, CPU)
    right = by_hand(context, TEMPLATES[Templates.PHOTO]) == context.evaluator("val").truth  # type: ignore[attr-defined]
    assert table.at["clip (zero-shot)", "accuracy"] == right.mean()
    for folder in (probe, full):
        row, log = table.loc[folder.name], pd.read_csv(folder / "training_log.csv")
        assert row["accuracy"] == pytest.approx(log["accuracy"].max())
        assert row["accuracy_gap"] == pytest.approx(row["accuracy"] - right.mean())
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
        assert row["train_s"] == pytest.approx(log["train_s"].sum())
        assert row["peak_mib"] == pytest.approx(log["peak_mib"].max())
        assert row["peak_mib"] > 10
        weights = torch.load(folder / "handclip_best.pth", weights_only=True)
        assert row["params_trained"] <= row["params"] <= sum(one.numel() for one in weights.values())
        assert len(np.load(folder / "embeddings_val.npy")) == len(pd.read_csv(folder / "embeddings_val.csv"))
    ends = ("head.", "neck.")
    parts = torch.load(probe / "handclip_best.pth", weights_only=True).items()
    trained = table["params_trained"]
    assert trained.loc["probe"] == sum(one.numel() for name, one in parts if name.startswith(ends))
    assert (trained == table["params"])["full"]
    assert "| weights trained | of all | memory, MiB | training, s |" in found.markdown
    assert "| 100 % |" in found.markdown
    with pytest.raises(InputError, match="the task classes has no galleries"):
        compare_runs([probe], device=CPU, view=View("val"), baselines=["hog"])
