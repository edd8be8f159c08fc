"""The command that trains one experiment on the workers of a cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from handclip_core.engine.phase import Optim
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import load_tensors, read_log
from handclip_core.strategies import Full
from tests.conftest import TINY_DATA
from tune_jobs.train import app

CPU = torch.device("cpu")


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.fixture
def experiment(tiny_backbones: dict[str, BackboneSettings]) -> Experiment:
    strategy = Full(optim=Optim(lr=1e-3, batch_size=16))
    return Experiment(strategy=strategy, data=TINY_DATA, backbone=tiny_backbones["vit"], budget=3)


@pytest.fixture
def file(experiment: Experiment, tmp_path: Path) -> str:
    path = tmp_path / "experiment.json"
    path.write_text(experiment.model_dump_json())
    return str(path)


@pytest.mark.ray
def test_two_workers_leave_what_one_process_does_and_go_on_where_it_stood(
    ray_cluster: None, experiment: Experiment, file: str, tmp_path: Path
) -> None:
    del ray_cluster
    alone = train_into(tmp_path / "alone", experiment, device=CPU)
    cut = drive(experiment, tmp_path / "shared", device=CPU)
    next(cut)
    cut.keep()
    cut.close()
    code, output = invoke(file, "--workers", "2", "--out", str(tmp_path / "shared"), "--resume")
    assert code == 0, output
    assert [line.split()[1] for line in output.splitlines() if line.startswith("unit ")] == ["2/3", "3/3"]
    assert f"saved in {tmp_path / 'shared'}" in output
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in (tmp_path / "shared").iterdir()} == names
    shared = read_log(tmp_path / "shared" / "training_log.csv")
    assert [row["unit"] for row in shared] == [1, 2, 3]
    assert [row["map"] for row in shared] == pytest.approx([row["map"] for row in alone.log], abs=2e-3)
    metrics = json.loads((tmp_path / "shared" / "metrics.json").read_text())
    assert metrics["best"]["unit"] in (1, 2, 3)
    expected, found = (load_tensors(tmp_path / name / "handclip_final.pth") for name in ("alone", "shared"))
    assert expected.keys() == found.keys()
    code, output = invoke(file, "--workers", "2", "--out", str(tmp_path / "shared"), "--resume")
    assert (code, "the run is complete" in output) == (2, True)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "3"], "resources.workers: a trial asks for 3 processes, but the cluster has room for 2"),
        (["--cpus", "5"], "resources: a trial asks for 5 CPUs"),
        (["--device", "cuda"], "the cluster has no GPU"),
    ],
)
def test_workers_that_do_not_fit_are_refused_before_anything_is_written(
    ray_cluster: None, file: str, tmp_path: Path, options: list[str], message: str
) -> None:
    del ray_cluster
    code, output = invoke(file, "--out", str(tmp_path / "run"), *options)
    assert code == 2
    assert len(output.splitlines()) == 1
    assert message in output
    assert not (tmp_path / "run").exists()


def test_bad_input_is_one_line_and_exit_code_two(experiment: Experiment, file: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("strategy: {name: bogus}")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.json").write_text(experiment.model_dump_json())
    moving = experiment.model_copy(update={"backbone": experiment.backbone.model_copy(update={"batch_norm": "moving"})})
    (tmp_path / "moving.json").write_text(moving.model_dump_json())
    for arguments, message in (
        (["missing.yaml"], "missing.yaml: no such file"),
        ([str(tmp_path / "broken.yaml")], "bogus"),
        ([file, "--out", str(tmp_path / "taken")], "holds a run already; pass --resume"),
        ([file, "--out", str(tmp_path / "new"), "--resume"], "config.json: no such file"),
        ([file, "--out", file], "is a file, not a folder; choose another folder"),
        ([str(tmp_path / "moving.json"), "--workers", "2"], "set backbone.batch_norm: fixed"),
    ):
        code, output = invoke(*arguments)
        assert (code, len(output.splitlines())) == (2, 1), output
        assert output.startswith("error: ")
        assert message in output


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys; sys.argv = ['train', '--help']\n"
        "from tune_jobs.train import app\n"
        "try: app()\n"
        "except SystemExit: print(sorted({'torch', 'ray', 'optuna', 'pandas', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--workers" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
