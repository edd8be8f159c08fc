"""docs/adding-a-task.md, done to a copy of the packages; then the new task trains, is evaluated, and is searched."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "adding-a-task.md").read_text()
BLOCK = re.compile(r"```(python|diff)\n(.*?)```", re.DOTALL)
FILE_OF_SECTION = {
    "## 2. The entry": "handclip_core/tasks/__init__.py",
    "## 3. The search spaces": "search_spaces/by_task.py",
}
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


def section(title: str) -> str:
    return GUIDE.split(title)[1].split("\n## ")[0]


def applied(text: str, diff: str) -> str:
    """``text`` with a diff's context and removed lines, which stand there once, made its context and added lines."""
    lines = diff.rstrip("\n").split("\n")
    before, after = (
        "".join(f"{line[1:]}\n" for line in lines if not line.startswith(without)) for without in ("+", "-")
    )
    assert text.count(before) == 1, f"{before!r} is not there, or not once"
    return text.replace(before, after)


@pytest.mark.spawn
def test_the_guide_leads_to_a_task_that_trains_and_is_judged(tmp_path: Path) -> None:
    for name in ("handclip_core", "search_spaces", "tune_jobs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    for name in ("tests/conftest.py", "tests/limits.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    ((_, code),) = BLOCK.findall(section("## 1. The file"))
    (tmp_path / "handclip_core/tasks/sides.py").write_text(code)
    for title, file in FILE_OF_SECTION.items():
        text = (tmp_path / file).read_text()
        for _, diff in BLOCK.findall(section(title)):
            text = applied(text, diff)
        (tmp_path / file).write_text(text)
    (tmp_path / "tests" / "test_sides.py").write_text(USE)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/test_sides.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "1 passed" in done.stdout
