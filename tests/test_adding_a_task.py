"""docs/adding-a-task.md, done to a copy of the packages; then the new task trains, is evaluated, and is searched."""

from pathlib import Path

import pytest

from tests.guides import Guide, passed

COPIED = ("handclip_core", "search_spaces", "tune_jobs", "tests/conftest.py", "tests/limits.py", "pyproject.toml")
USE = """
from pathlib import Path

import numpy as np
import pytest
import torch

from handclip_core.evaluation.bootstrap import compare_paired, estimate
from handclip_core.local import train_into
from handclip_core.reports.measure import View
from handclip_core.reports.report import evaluate_run
from handclip_core.runs.experiment import Experiment, context_of
from handclip_core.runs.run_folder import load_run
from handclip_core.strategies import serving
from search_spaces.by_task import spaces_of
from tests.conftest import TINY_DATA
from tune_jobs.config.settings import SweepSettings

CPU = torch.device("cpu")


def test_the_task_is_used(tiny_backbones, tmp_path: Path) -> None:
    values = {"task": {"name": "sides"}, "data": TINY_DATA, "backbone": tiny_backbones["vit"], "budget": 2}
    experiment = Experiment.model_validate(values | {"strategy": {"name": "full", "optim": {"batch_size": 8}}})
    record = train_into(tmp_path / "run", experiment, device=CPU)
    assert record.objective == "same_side"
    context, model = context_of(experiment, CPU), load_run(tmp_path / "run", device=CPU)
    scores = context.evaluator("val").evaluate(model, context.pixel_inputs)
    manifest = context.prepared.manifest.iloc[context.rows("val")].reset_index(drop=True)
    vectors = context.evaluator("val").embedded(model, context.pixel_inputs)
    for i, row in manifest.iterrows():
        others = [j for j in manifest.index if manifest.at[j, "identity"] != row["identity"]]
        nearest = max(others, key=lambda j: float(vectors[i] @ vectors[j]))
        assert scores.same[i] == (manifest.at[nearest, "aspect"].split()[0] == row["aspect"].split()[0])
    assert scores.mean("same_side") == pytest.approx(record.best["same_side"])
    assert estimate(scores, "same_side").value == pytest.approx(np.mean(scores.same))
    assert compare_paired(scores, scores, "same_side").difference == 0
    experiment.task.save(tmp_path / "scores.npz", scores)
    assert experiment.task.load(tmp_path / "scores.npz").metrics == scores.metrics
    assert "same side" in evaluate_run(tmp_path / "run", device=CPU, view=View("val")).text
    assert "full" in serving(experiment.task) and "prolip" not in serving(experiment.task)
    assert "full" in spaces_of(experiment.task)
    assert SweepSettings.parse({"task": {"name": "sides"}}, source="x").search.objectives == ("same_side",)
"""


@pytest.mark.spawn
def test_the_guide_leads_to_a_task_that_trains_and_is_judged(tmp_path: Path) -> None:
    Guide("adding-a-task.md").follow(
        tmp_path,
        copied=COPIED,
        new="handclip_core/tasks/sides.py",
        changed={
            "## 2. The entry": "handclip_core/tasks/__init__.py",
            "## 3. The search spaces": "search_spaces/by_task.py",
        },
    )
    (tmp_path / "tests" / "test_sides.py").write_text(USE)
    assert passed(tmp_path, "-n", "0", "tests/test_sides.py") == 1
