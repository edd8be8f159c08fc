import shlex
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from handclip_core.__main__ import app
from handclip_core.models.backbone import BackboneSettings
from handclip_core.strategies import AnyStrategy, Full, Sequential, ZeroShot
from tests.tune_jobs.finals.conftest import AT, write_sweep
from tests.tune_jobs.made_up import validated
from tune_jobs.lifecycle.reading import read_record
from tune_jobs.reporting import sweep_sections
from tune_jobs.reporting.record import SweepRecord
from tune_jobs.state.events import Ended, Moved, Started, Validated


def made_up(folder: Path, **changed: object) -> SweepRecord:
    trials = ((ZeroShot(), 0.5), (Full(), 0.7), (Full(), 0.6), (Full(), None))
    write_sweep(folder, trials, backbone=BackboneSettings(), **changed)  # type: ignore[arg-type]
    return read_record(folder)


def test_the_expected_best_is_the_mean_of_the_maxima_of_all_draws() -> None:
    scores = (0.2, 0.5, 0.9)
    for num, best in sweep_sections._expected_best(scores):
        draws = list(product(scores, repeat=int(num)))
        assert best == pytest.approx(100 * sum(map(max, draws)) / len(draws))


def test_the_best_so_far_never_falls_and_ends_with_all_units(tmp_path: Path) -> None:
    figure = sweep_sections.progress(made_up(tmp_path / "tiny")).figures[0]
    curves = {trace["name"]: (trace["x"], trace["y"]) for trace in figure.data}
    assert curves == {"zero_shot": ([1, 4], [50.0, 50.0]), "full": ([2, 4], [70.0, 70.0])}


def test_strategies_are_counted_and_the_best_comes_first(tmp_path: Path) -> None:
    table = sweep_sections.strategies(made_up(tmp_path / "tiny")).tables[0]
    full = dict(zip(table.headings, table.rows[0], strict=True))
    assert (full["strategy"], full["trials"], full["failed"], full["best mAP"]) == ("full", "3", "1", "70.00")
    assert full["median mAP"] == "65.00"


def test_learning_curves_mark_rungs_and_the_trials_that_were_stopped(tmp_path: Path) -> None:
    more = [Started(at=AT, trial=2), validated(2, 3, 0.65), Ended(at=AT, trial=2, status="stopped")]
    sweep = made_up(tmp_path / "tiny", more=more, budget=9, early_stopping={"grace": 1, "reduction": 3})
    curves = next(one for one in sweep_sections.progress(sweep).figures if "curves of full" in one.caption)
    assert curves.caption.endswith("rungs at 1, 3.")
    assert [shape["x0"] for shape in curves.layout["shapes"]] == [1, 3]
    assert curves.data[1]["name"] == "stopped early"
    assert curves.data[1]["y"] == [60.0]


def test_what_does_not_train_has_no_learning_curve(tmp_path: Path) -> None:
    sweep = made_up(tmp_path / "tiny")
    changed = [
        event.model_copy(update={"unit": 0}) if isinstance(event, Validated) and event.trial == 0 else event
        for event in sweep.events
    ]
    captions = [figure.caption for figure in sweep_sections.progress(replace(sweep, events=changed)).figures]
    assert [caption.split(",")[0] for caption in captions if "curves" in caption] == ["Learning curves of full"]


def test_the_leaderboard_links_to_the_files_that_are_there(tmp_path: Path) -> None:
    sweep = made_up(tmp_path / "tiny")
    log = sweep.folder / "trials" / "0001-full" / "checkpoint_000001" / "training_log.csv"
    log.parent.mkdir(parents=True)
    log.write_text("unit\n")
    rows = sweep_sections.leaderboard(sweep).tables[0].rows
    assert [str(row[0]) for row in rows] == ["1", "2", "0", "3"]
    assert (getattr(rows[0][3], "href", ""), rows[1][3]) == (log.relative_to(sweep.folder).as_posix(), "–")


@pytest.mark.parametrize(
    ("objectives", "against"), [(["map"], ["seconds", "params_trained"]), (["map", "seconds"], ["seconds"])]
)
def test_the_pareto_front_is_of_the_objectives_and_of_a_single_one_against_cost(
    tmp_path: Path, objectives: list[str], against: list[str]
) -> None:
    section = sweep_sections.pareto(made_up(tmp_path / "tiny", search={"objectives": objectives}))
    assert [row[0] for row in section.tables[0].rows] == ["1"]
    assert [figure.layout["xaxis"]["title"]["text"] for figure in section.figures] == against
    edge = section.figures[0].data[-1]
    assert edge["y"] == [0.7]


def test_a_front_without_complete_trials_and_few_trials_say_what_they_need(tmp_path: Path) -> None:
    write_sweep(tmp_path / "tiny", ((Full(), None),), backbone=BackboneSettings())
    sweep = read_record(tmp_path / "tiny")
    assert "whole budget" in sweep_sections.pareto(sweep).missing
    assert sweep_sections.expected_best(sweep).missing.endswith(f"tune_jobs/sweep.py {tmp_path}/tiny --extend 20")


@pytest.mark.parametrize(("strategy", "said"), [(Full(), "--set 'strategies=["), (Sequential(), "config.json --out")])
def test_without_a_forgetting_matrix_it_says_how_to_get_one(tmp_path: Path, strategy: AnyStrategy, said: str) -> None:
    write_sweep(tmp_path / "tiny", ((strategy, 0.5),), backbone=BackboneSettings())
    assert said in sweep_sections.forgetting(read_record(tmp_path / "tiny"), None).missing


def test_the_forgetting_matrix_of_a_sequence(tmp_path: Path) -> None:
    sequence = {"aspects": ["a", "b"], "map_after_phase": [[0.1, 0.2], [0.5, 0.3], [0.4, 0.6]], "forgetting": 0.1}
    section = sweep_sections.forgetting(made_up(tmp_path / "tiny"), sequence)
    assert section.lines == ("forgetting: 10.00",)
    assert section.figures[0].data[0]["z"][2] == [40.0, 60.0]


def test_attempts_that_were_begun_again_are_counted_by_reason(tmp_path: Path) -> None:
    more = [Moved(at=AT, trial=0, reason="node left"), Moved(at=AT, trial=1, reason="node left")]
    tables = sweep_sections.trouble(made_up(tmp_path / "tiny", more=more)).tables
    assert tables[1].rows == (("moved", "node left", "2"),)


@pytest.mark.parametrize("has_galleries", [True, False])
def test_how_to_use_a_run_is_told_in_commands_that_there_are(has_galleries: bool) -> None:
    code = sweep_sections.how_to_use("runs/my sweep/best", has_galleries=has_galleries).code
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    typed = [shlex.split(line) for line in code.split("\n\n")[0].splitlines()]
    assert {words[3] for words in typed} <= names
    assert all(words[4] == "runs/my sweep/best" for words in typed)
    assert any(words[3] == "identify" for words in typed) == has_galleries
    compile(code.split("\n\n")[1], "told", "exec")
