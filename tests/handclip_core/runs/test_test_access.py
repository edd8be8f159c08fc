import shutil
from pathlib import Path

import pytest
import torch

from handclip_core.errors import InputError
from handclip_core.evaluation.access_log import OPENED, SCORED, hash_of_test
from handclip_core.local import train_into
from handclip_core.paths import STATE_VARIABLE
from handclip_core.reports.measure import View
from handclip_core.reports.report import compare_runs, evaluate_run
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.test_access import access_log_of
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
DATA = "0" * 64


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accesses of other tests are none of ours."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))


@pytest.fixture(scope="module")
def run(tiny_context: ExperimentContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in the folder of a sweep."""
    sweep = tmp_path_factory.mktemp("runs") / "hands"
    sweep.mkdir()
    (sweep / "sweep.yaml").touch()
    values = {"strategy": {"name": "zero_shot"}, "data": TINY_DATA, "backbone": tiny_context.settings}
    train_into(sweep / "best", Experiment.model_validate(values), device=CPU)
    return sweep / "best"


def test_every_look_at_test_people_is_entered_with_its_figures_and_none_at_validation_people(
    run: Path, tiny_context: ExperimentContext
) -> None:
    access_log = access_log_of(run, DATA)
    assert access_log.path == run.parents[1] / "test_looks.jsonl"
    assert "look" not in evaluate_run(run, device=CPU, view=View("val")).text
    assert not access_log.path.exists()

    report = evaluate_run(run, device=CPU, view=View("test"))
    assert f"access 1 to these test identities, logged in {access_log.path}" in report.text
    compared = compare_runs([run], device=CPU, view=View("test"), baselines=["pixels"])
    assert "access 2 to these test identities" in compared.markdown
    assert [entry.event for entry in access_log.entries()] == [OPENED, SCORED] * 2
    assert len(access_log.accesses(hash_of_test(tiny_context.prepared))) == 2
    evaluated, beside = (entry.values["figures"] for entry in access_log.entries()[1::2])
    assert evaluated["map"] == report.values["scores"]["overall"]["map"]
    assert beside["hands/best"]["map"] == evaluated["map"]
    assert set(beside) == {"clip (zero-shot)", "pixels", "hands/best"}


def test_a_broken_ledger_is_refused_before_test_people_are_scored(run: Path) -> None:
    path = access_log_of(run, DATA).path
    evaluate_run(run, device=CPU, view=View("test"))
    (run / "evaluation_test.json").unlink()
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in lines[1:]))
    with pytest.raises(InputError, match="line 1: does not follow the line before"):
        evaluate_run(run, device=CPU, view=View("test"))
    assert not (run / "evaluation_test.json").exists()


def test_a_run_of_the_finals_of_a_sweep_has_the_ledger_of_the_sweeps(tmp_path: Path) -> None:
    for sweep in ("runs/hands", "runs/hands/finals"):
        (tmp_path / sweep).mkdir(parents=True)
        (tmp_path / sweep / "sweep.yaml").touch()
    assert access_log_of(tmp_path / "runs/hands/finals/model/best", DATA).path == tmp_path / "runs" / "test_looks.jsonl"


def test_a_run_by_itself_has_its_ledger_beside_it(tmp_path: Path) -> None:
    assert access_log_of(tmp_path / "mine", DATA).path == tmp_path / "test_looks.jsonl"


def test_a_copy_of_a_run_elsewhere_shares_the_count(run: Path, tmp_path: Path) -> None:
    counts = []
    for name in ("one", "other", "third"):
        shutil.copytree(run, tmp_path / name / "run", ignore=shutil.ignore_patterns("*.jsonl*"))
        counts.append(evaluate_run(tmp_path / name / "run", device=CPU, view=View("test")).text.splitlines()[-1])
    assert [line[: len("access 1")] for line in counts] == ["access 1", "access 2", "access 3"]
