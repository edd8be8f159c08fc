import csv
import io
from math import nan
from pathlib import Path
from typing import Any

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from handclip_core.tasks.identities.task import Identities
from tune_jobs.reporting.leaderboard import columns, leaderboard, write_leaderboard
from tune_jobs.state.events import Mixture
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials

METRICS = Identities().metrics


def view(number: int, strategy: str = "full", **known: Any) -> TrialView:
    params = known.pop("params", {"strategy/optim/lr": 10.0**-number})
    return TrialView(number, strategy, params, Experiment(strategy=ZeroShot()), **known)


def all_trials(*items: TrialView) -> Trials:
    return Trials({item.number: item for item in items})


def rows(sweep: Trials) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(leaderboard(sweep))))


def test_columns_are_the_fixed_ones_and_then_every_drawn_hyperparameter() -> None:
    sweep = all_trials(
        view(0, "zero_shot", params={}, status=Status.COMPLETE, metrics={"map": 0.5}),
        view(
            1,
            status=Status.COMPLETE,
            metrics={"map": 0.4},
            params={"strategy/optim/lr": 1e-5, "strategy/neck/kind": "bn"},
        ),
        view(
            2,
            "adapters",
            status=Status.COMPLETE,
            metrics={"map": 0.9},
            params={"strategy/optim/lr": 1e-3, "strategy/width": 8},
        ),
    )
    drawn = ("strategy/optim/lr", "strategy/neck/kind", "strategy/width")
    assert tuple(rows(sweep)[0]) == (*columns(METRICS), *drawn)
    assert [[row[name] for name in drawn] for row in rows(sweep)] == [
        ["0.001", "", "8"],
        ["", "", ""],
        ["1e-05", "bn", ""],
    ]


def test_ranks_go_by_map_the_earlier_of_equals_first_and_the_unscored_have_none() -> None:
    sweep = all_trials(
        view(0, status=Status.COMPLETE, metrics={"map": 0.5, "cmc1": 0.4}),
        view(1, status=Status.FAILED, metrics={"map": 0.99}, reason="DivergedError: at step 3"),
        view(2, status=Status.STOPPED, metrics={"map": 0.8}),
        view(3, status=Status.COMPLETE, metrics={"map": 0.5}),
        view(4, status=Status.RUNNING),
        view(5, status=Status.INTERRUPTED, metrics={"map": 0.6}),
    )
    assert [(row["rank"], row["trial"]) for row in rows(sweep)] == [
        ("1", "2"), ("2", "5"), ("3", "0"), ("4", "3"), ("", "1"), ("", "4"),
    ]  # fmt: skip
    assert rows(sweep)[4]["status"] == "failed: DivergedError: at step 3"
    assert rows(sweep)[5]["map"] == ""


def test_scores_keep_six_digits_and_drawn_values_all_of_theirs() -> None:
    drawn = {"strategy/optim/lr": 0.1 + 0.2, "strategy/augment/flip": False, "strategy/optim/clip_norm": None}
    known: dict[str, Any] = {
        "metrics": {"map": 2 / 3, "cmc1": 0.5, "retention": 0.9, "minp": 0.1},
        "unit": 8,
        "seconds": 61.26,
        "params_trained": 2_283_680,
        "attempts": 2,
        "seeds": [{"map": 0.1}, {"map": 0.3}],
    }
    (row,) = rows(all_trials(view(7, status=Status.COMPLETE, params=drawn, **known)))
    assert row == {
        "rank": "1", "trial": "7", "strategy": "full", "map": "0.666667", "cmc1": "0.500000",
        "retention": "0.900000", "unit": "8",
        "seconds": "61.3", "params_trained": "2283680", "seeds": "2", "sd": "0.141421",
        "attempts": "2", "micro_batch": "", "status": "complete",
        "strategy/optim/lr": "0.30000000000000004", "strategy/augment/flip": "false",
        "strategy/optim/clip_norm": "none",
    }  # fmt: skip


def test_reasons_with_commas_and_quotes_stay_in_their_cell() -> None:
    reason = 'InputError: "a", b'
    (row,) = rows(all_trials(view(0, status=Status.FAILED, reason=reason)))
    assert row["status"] == f"failed: {reason}"


def test_a_sweep_without_trials_is_a_header(tmp_path: Path) -> None:
    write_leaderboard(Trials(), tmp_path)
    assert (tmp_path / "leaderboard.csv").read_text() == ",".join(columns(METRICS)) + "\n"


def test_the_winner_is_not_running_and_its_best_weights_are_saved() -> None:
    best: dict[str, Any] = {"best_unit": 3, "saved_unit": 3}
    sweep = all_trials(
        view(0, status=Status.COMPLETE, metrics={"map": 0.5}, checkpoint="a", **best),
        view(1, status=Status.INTERRUPTED, metrics={"map": 0.9}, checkpoint="b", best_unit=3, saved_unit=2),
        view(2, status=Status.FAILED, metrics={"map": 0.95}, checkpoint="c", **best),
        view(3, status=Status.COMPLETE, metrics={"map": nan}, checkpoint="d", **best),
        view(4, status=Status.COMPLETE, metrics={"map": 0.7}, **best),
        view(5, status=Status.STOPPED, metrics={"map": 0.6}, checkpoint="e", **best),
        view(6, status=Status.RUNNING, metrics={"map": 0.8}, checkpoint="f", **best),
    )
    assert sweep.winner is sweep.trials[5]
    assert sweep.best is sweep.trials[1]
    assert sweep.num_over() == 5
    sweep.trials[1].saved_unit = 4
    assert sweep.winner is sweep.trials[1]
    assert Trials().winner is None
    assert Trials().best is None


def test_a_trial_that_ran_out_of_memory_shows_with_what_it_went_on() -> None:
    experiment = Experiment(strategy=ZeroShot(), micro_batch=8)
    (row,) = rows(all_trials(TrialView(0, "zero_shot", {}, experiment)))
    assert row["micro_batch"] == "8"


def test_mixtures_stand_among_trials_without_a_number() -> None:
    sweep = all_trials(
        view(0, status=Status.COMPLETE, metrics={"map": 0.5, "cmc1": 0.4}, params={"strategy/optim/lr": 0.1}),
        view(1, status=Status.FAILED, reason="gone", params={"strategy/optim/lr": 0.2}),
        view(2, status=Status.COMPLETE, metrics={"map": 0.8}, params={"strategy/optim/lr": 0.3}),
    )
    sweep.mixtures = (Mixture(name="WiSE-FT", status="WiSE-FT at 0.7 of 2", metrics={"map": 0.6, "cmc1": 0.55}),)
    found = rows(sweep)
    assert [(row["rank"], row["trial"], row["map"]) for row in found] == [
        ("1", "2", "0.800000"), ("2", "", "0.600000"), ("3", "0", "0.500000"), ("", "1", ""),
    ]  # fmt: skip
    assert found[1]["status"] == "WiSE-FT at 0.7 of 2"
    assert [row["strategy/optim/lr"] for row in found] == ["0.3", "", "0.1", "0.2"]
