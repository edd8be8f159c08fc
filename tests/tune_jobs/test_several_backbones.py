"""A sweep that searches among backbones: every strategy on each is an arm of its own, and tables say which."""

import csv
import io
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment
from search_spaces.arms import arm_of, backbone_in, strategy_in
from tests.tune_jobs.dying import Fuse, run_to_the_end
from tests.tune_jobs.simulated import ROOM, begun, rising, run, settings, state_of
from tests.tune_jobs.simulation import Step
from tune_jobs.config.settings import SweepSettings
from tune_jobs.lifecycle.build import SweepRun
from tune_jobs.lifecycle.dry_run import shares
from tune_jobs.lifecycle.fork import fork
from tune_jobs.lifecycle.review import report
from tune_jobs.reporting.progress import Progress, trial_table
from tune_jobs.reporting.record import SweepRecord
from tune_jobs.reporting.study import FILE as STUDY
from tune_jobs.reporting.sweep_sections import pareto
from tune_jobs.scheduling.early_stopping import AshaRungs
from tune_jobs.search.proposer import costs_of
from tune_jobs.search.transfer import transfer
from tune_jobs.state.events import EVENT
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.objectives import front_csv, front_lines, pareto_front
from tune_jobs.state.trial import Status
from tune_jobs.state.trials import folded

SMALL = BackboneSettings()
LARGE = BackboneSettings(name="timm/test_vit", pretrained="random")
ARMS = ("linear_probe@handclip-nano", "linear_probe@test_vit", "full@handclip-nano", "full@test_vit")


def two(storage: Path, **changed: Any) -> SweepSettings:
    values: dict[str, Any] = {
        "backbone": ["handclip-nano", LARGE],
        "strategies": ("linear_probe", "full"),
        "trials": 14,
    }
    return settings(storage, **values | changed)


def by_tower(experiment: Experiment, unit: int) -> Step:
    """The large tower is 0.3 better in the end, begins lower, and takes ten times as long."""
    step = rising(experiment, unit)
    if experiment.backbone == SMALL:
        return step
    return Step(max(0.0, step.score + 0.1 * (unit - 2)), seconds=10 * step.seconds)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    return run(two(tmp_path_factory.mktemp("two")), by_tower)


def record(swept: SweepRun) -> SweepRecord:
    return SweepRecord(swept.folder, swept.folder, swept.settings, read_journal(swept.folder / FILE))


def test_every_arms_default_comes_first_and_every_trial_has_its_backbone(swept: SweepRun) -> None:
    views = swept.all_trials.all()
    assert swept.settings.arms == ARMS
    assert [(view.arm, view.origin) for view in views[:4]] == [(arm, "default") for arm in ARMS]
    assert {view.origin for view in views[4:]} == {"sampled"}
    for view in views:
        assert view.experiment.backbone == (SMALL if view.backbone == "handclip-nano" else LARGE)
    tried = Counter(view.arm for view in views)
    assert min(tried[arm] for arm in ARMS) >= 2
    assert shares(swept.settings) == dict(zip(ARMS, (4, 4, 3, 3), strict=True))


def test_rungs_are_kept_apart(swept: SweepRun) -> None:
    rule = swept.scheduler.decisions.rule
    assert isinstance(rule, AshaRungs)
    assert set(rule.scores) == set(ARMS)
    for arm, rungs in rule.scores.items():
        trials = [view.number for view in swept.all_trials.all() if view.arm == arm]
        assert set(rungs[1]) <= set(trials)
    # At the first rung the large tower is far behind; its best trials must not fall to the small one's.
    for arm in ARMS:
        of_arm = [view for view in swept.all_trials.all() if view.arm == arm]
        assert any(view.status is Status.COMPLETE for view in of_arm)


def test_other_drivers_know_the_same_of_it(swept: SweepRun) -> None:
    events = read_journal(swept.folder / FILE)
    again = folded(EVENT.validate_json(event.model_dump_json()) for event in events)
    assert [view.arm for view in again.all()] == [view.arm for view in swept.all_trials.all()]


def test_drivers_that_die_leave_the_same_sweep(fuse: Fuse, swept: SweepRun, tmp_path: Path) -> None:
    lengths = random.Random(1)
    deaths = run_to_the_end(two(tmp_path), fuse, iter(lambda: lengths.randint(20, 300), None), curve=by_tower)
    assert deaths >= 3
    assert state_of(tmp_path / "simulated") == state_of(swept.folder)
    assert begun(tmp_path / "simulated") == list(range(14))


def test_tables_say_which_backbone(swept: SweepRun) -> None:
    views = {str(view.number): view for view in swept.all_trials.all()}
    with (swept.folder / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["rank", "trial", "strategy", "backbone"]
    assert all((row["strategy"], row["backbone"]) == _named(views[row["trial"]].arm) for row in rows)
    table = trial_table(swept.all_trials, budget=5, rows=20)
    assert [column.header for column in table.columns][:3] == ["trial", "strategy", "backbone"]
    status = "\n".join(Progress(all_trials=swept.all_trials, num_trials=14, budget=5).status_lines(1e9))
    assert all(f"best {arm}" in status for arm in ARMS)
    page = report(record(swept)).model_dump_json()
    assert all(arm in page for arm in ARMS)
    assert '"headings":["strategy","backbone","trials"' in page
    assert "handclip-nano, timm/test_vit" in page


def _named(arm: str) -> tuple[str, str]:
    return strategy_in(arm), backbone_in(arm)


def test_the_study_has_the_backbone_as_a_choice(swept: SweepRun) -> None:
    study = optuna.load_study(study_name="simulated", storage=f"sqlite:///{swept.folder / STUDY}")
    for trial, view in zip(study.trials, swept.all_trials.all(), strict=True):
        assert (trial.params["strategy"], trial.params["backbone"]) == _named(view.arm)
        assert trial.user_attrs["backbone"] == view.backbone
        own = {name for name in trial.params if "/" in name}
        assert own
        assert all(name.startswith(f"{view.arm}/") for name in own)
        assert {f"strategy/{name.partition('/')[2]}" for name in own} == set(view.params)


def test_what_a_trial_costs_is_known_by_arm(swept: SweepRun) -> None:
    costs = costs_of(ARMS, swept.all_trials, budget=5)
    assert costs["full@test_vit"] == pytest.approx(10 * costs["full@handclip-nano"], rel=0.1)
    assert costs_of(("full@test_vit", "lora@test_vit"), swept.all_trials, budget=5)["lora@test_vit"] == pytest.approx(
        costs["full@test_vit"]
    )


def test_one_backbone_is_named_nowhere(tmp_path: Path) -> None:
    plain, listed = settings(tmp_path / "plain"), settings(tmp_path / "listed", backbone=["handclip-nano"])
    assert listed.model_dump(exclude={"storage"}) == plain.model_dump(exclude={"storage"})
    assert plain.arms == plain.strategies
    for one in (plain, listed):
        run(one)
    assert state_of(tmp_path / "plain" / "simulated") == state_of(tmp_path / "listed" / "simulated")
    lines = [(tmp_path / name / "simulated" / "leaderboard.csv").read_text() for name in ("plain", "listed")]
    assert lines[0] == lines[1]
    assert lines[0].startswith("rank,trial,strategy,map,")
    assert "@" not in (tmp_path / "plain" / "simulated" / FILE).read_text()


def test_points_and_ranges_are_of_every_backbone_or_of_one(tmp_path: Path) -> None:
    ranges = {"full@test_vit/optim/lr": [1e-5, 1e-5], "full/optim/lr": [5e-5, 5e-5]}
    search: dict[str, Any] = {
        "points": [
            {"strategy": "full", "optim/lr": 5e-5},
            {"strategy": "full", "backbone": "test_vit", "layer_decay": 0.5},
        ],
        "ranges": ranges,
    }
    with pytest.raises(InputError, match=r"search.points\[0\]: optim/lr: 5e-05 lies outside"):
        SweepSettings.parse(two(tmp_path).model_dump() | {"search": search}, source="x")
    del ranges["full@test_vit/optim/lr"]
    found = run(two(tmp_path, search=search, trials=9))
    tried = [(view.arm, view.origin) for view in found.all_trials.all()[4:7]]
    assert tried == [("full@handclip-nano", "point 0"), ("full@test_vit", "point 0"), ("full@test_vit", "point 1")]
    assert {view.params["strategy/optim/lr"] for view in found.all_trials.all() if view.strategy == "full"} == {5e-5}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backbone": []}, "backbone: name at least one backbone"),
        ({"backbone": ["handclip-nano", "handclip-nano"]}, "backbone: handclip-nano is named twice"),
        ({"backbone": ["handclip-nano", {"nam": "RN50"}]}, r"unknown key 'backbone.1.nam'; did you mean 'name'\?"),
        ({"trials": 3}, "trials: 3 are too few for the defaults of 2 strategies on 2 backbones; set trials to 4"),
        (
            {"search": {"points": [{"strategy": "full", "backbone": "RN50"}]}},
            "there is no 'RN50' for full; choose from h",
        ),
        (
            {"search": {"ranges": {"full@RN50/optim/lr": [1e-5, 1e-4]}}},
            "there is no 'full@RN50'; choose from linear_probe@",
        ),
        ({"search": {"ranges": {"full@test_vit/lr": [1e-5, 1e-4]}}}, "unknown hyperparameter 'full@test_vit/lr'"),
        (
            {"task": {"name": "classes"}, "search": {}},
            "backbone.name: timm/test_vit is an image tower alone, but the task classes",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        SweepSettings.parse(two(tmp_path).model_dump(exclude_unset=True) | changed, source="x")


def test_a_sweep_learns_from_trials_on_the_same_backbone(swept: SweepRun, tmp_path: Path) -> None:
    one = settings(tmp_path, strategies=("full",))
    views = swept.all_trials.all()

    def taken(here: SweepSettings) -> Counter[str]:
        found = transfer(
            swept.all_trials, here.search.space(here.arms), ("map",), others=("map",),
            arm_here=lambda view: here.arm_of(view.experiment),
        )  # fmt: skip
        return Counter(trial.strategy for trial in found.taken)

    assert taken(one) == {"full": sum(view.arm == "full@handclip-nano" for view in views)}
    assert taken(two(tmp_path)) == Counter(view.arm for view in views)


def test_a_fork_with_one_more_backbone_takes_over_what_was_tried(tmp_path: Path) -> None:
    before = settings(tmp_path, strategies=("full", "linear_probe"), trials=5)
    run(before)
    after = before.model_copy(update={"backbone": (SMALL, LARGE), "trials": 9, "name": "wider"})
    found = fork(tmp_path / "simulated", before, after)
    assert len(found.numbers) == 5
    (tmp_path / "wider").mkdir()
    found.fill(tmp_path / "wider")
    swept = run(after)
    assert [view.backbone for view in swept.all_trials.all()[:5]] == ["handclip-nano"] * 5
    defaults = [view.arm for view in swept.all_trials.all()[5:] if view.origin == "default"]
    assert defaults == ["full@test_vit", "linear_probe@test_vit"]


def test_a_fork_leaves_the_trials_on_other_backbones_behind(tmp_path: Path) -> None:
    before = settings(tmp_path, strategies=("clip_reid", "linear_probe"), trials=2)
    run(before, lambda experiment, unit: Step(0.1 * unit + len(experiment.strategy.name) / 100))
    other = BackboneSettings(name="RN50")
    found = fork(tmp_path / "simulated", before, before.model_copy(update={"backbone": (LARGE, other), "trials": 3}))
    assert found.lines()[1:] == ["  2 left behind: its backbone is not in this sweep"]


def test_several_objectives_and_workers_find_their_arms(tmp_path: Path) -> None:
    objectives = ("map", "seconds")
    search = {"objectives": objectives, "startup_trials": 2}
    found = run(two(tmp_path, search=search, trials=10), by_tower, trial_resources=replace(ROOM, concurrent=3))
    assert {view.arm for view in found.all_trials.all()} == set(ARMS)
    assert arm_of("full", "") == "full"
    front = pareto_front(found.all_trials, objectives)
    rows = list(csv.DictReader(io.StringIO(front_csv(front, objectives))))
    assert list(rows[0])[:3] == ["trial", "strategy", "backbone"]
    named = [_named(view.arm) for view in front]
    assert [(row["strategy"], row["backbone"]) for row in rows] == named
    assert front_lines(front, objectives)[1].startswith(f"  trial {front[0].number} {arm_of(*named[0])}: map ")
    section = pareto(record(found))
    assert section.tables[0].headings[:3] == ("trial", "strategy", "backbone")
    assert [row[1:3] for row in section.tables[0].rows] == named
