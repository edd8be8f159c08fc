"""docs/adding-a-task.md, done to a copy of the packages; then the new task trains, is evaluated, and is searched."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.guides import Guide, passed
from tests.limits import LIMIT_S

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


SWEEP = """
name: sides
task: {name: sides}
data: {source: drawn, people: 12, images_per_aspect: 3, height_px: 96}
strategies: [zero_shot, linear_probe]
trials: 3
budget: 2
"""


@pytest.fixture
def with_sides(tmp_path: Path) -> Path:
    """The packages with the new task."""
    Guide("adding-a-task.md").follow(
        tmp_path,
        copied=COPIED,
        new="handclip_core/tasks/sides.py",
        changed={
            "## 2. The entry": "handclip_core/tasks/__init__.py",
            "## 3. The search spaces": "search_spaces/by_task.py",
        },
    )
    return tmp_path


@pytest.mark.spawn
def test_the_guide_leads_to_a_task_that_trains_and_is_judged(with_sides: Path) -> None:
    (with_sides / "tests" / "test_sides.py").write_text(USE)
    assert passed(with_sides, "-n", "0", "tests/test_sides.py") == 1


@pytest.mark.ray
@pytest.mark.spawn
def test_a_sweep_searches_the_new_task(with_sides: Path) -> None:
    (with_sides / "sides.yaml").write_text(SWEEP)
    said = subprocess.run(
        [sys.executable, "tune_jobs/sweep.py", "sides.yaml"],
        cwd=with_sides, env={**os.environ, "PYTHONPATH": str(with_sides)},
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    rows = pd.read_csv(with_sides / "runs" / "sides" / "leaderboard.csv")
    assert {"zero_shot", "linear_probe"} <= set(rows["strategy"])
    assert rows["same_side"].between(0, 1).all()
    assert rows["same_side"].is_monotonic_decreasing
    assert "same side" in (with_sides / "runs" / "sides" / "report.md").read_text("utf-8")
