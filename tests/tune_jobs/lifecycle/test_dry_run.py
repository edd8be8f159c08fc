"""What a sweep would take, beside what it takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tests.tune_jobs.simulated import ROOM
from tune_jobs.config.settings import EarlyStopping, StoppingKind, SweepSettings
from tune_jobs.lifecycle.dry_run import estimate, expected, lines, share_of_budget, shares
from tune_jobs.lifecycle.profile import Profile
from tune_jobs.scheduling.limits import GIB

STRATEGIES = ("zero_shot", "linear_probe", "full")
PROBES = [
    Profile(name, setup_s=1.0, train_s=train_s, validate_s=1.0, memory_bytes=0, state_bytes=10)
    for name, train_s in zip(STRATEGIES, (0.0, 8.0, 98.0), strict=True)
]


def settings(**changed: Any) -> SweepSettings:
    return SweepSettings(**{"strategies": STRATEGIES, "trials": 11, "budget": 9} | changed)


def test_every_strategy_gets_its_default_and_an_even_part_of_the_rest() -> None:
    assert shares(settings()) == {"zero_shot": 1, "linear_probe": 5, "full": 5}
    assert shares(settings(trials=12)) == {"zero_shot": 1, "linear_probe": 6, "full": 5}
    assert shares(settings(strategies=("zero_shot",), trials=4)) == {"zero_shot": 1}


def test_without_early_stopping_the_sum_of_all_trials_is_expected() -> None:
    swept = settings(early_stopping=EarlyStopping(kind=StoppingKind.NONE))
    found = expected(PROBES, swept, replace(ROOM, concurrent=2, gpus=0.5))
    seconds = 2.0 + 5 * 10.0 + 5 * 100.0
    assert found.hours == found.most_hours == pytest.approx(seconds / 2 / 3600)
    assert found.gpu_hours == pytest.approx(seconds / 2 / 3600)
    assert found.disk_bytes == (3 + 2 * 2) * 10


def test_seeds_multiply_what_is_not_stopped() -> None:
    swept = settings(early_stopping=EarlyStopping(kind=StoppingKind.NONE), search={"replicas": 3})
    found = expected(PROBES, swept, ROOM)
    assert found.hours == pytest.approx((2.0 + 3 * (5 * 10.0 + 5 * 100.0)) / 3600)


def test_the_baseline_of_a_calibration_gets_five_seeds() -> None:
    plain = settings(early_stopping=EarlyStopping(kind=StoppingKind.NONE), search={"replicas": 2})
    swept = settings(early_stopping=plain.early_stopping, search={"replicas": 2, "power_analysis": True})
    found, without = expected(PROBES, swept, ROOM), expected(PROBES, plain, ROOM)
    assert found.hours - without.hours == pytest.approx(3 * 10.0 / 3600)
    assert found.most_hours == found.hours


def test_no_more_trials_run_at_a_time_than_there_are_and_the_longest_is_waited_for() -> None:
    swept = settings(trials=3, early_stopping=EarlyStopping(kind=StoppingKind.NONE))
    found = expected(PROBES, swept, replace(ROOM, concurrent=50))
    assert (2.0 + 10.0 + 100.0) / 3 < 100.0
    assert found.hours == found.most_hours == pytest.approx(100.0 / 3600)
    assert found.disk_bytes == (3 + 2 * 3) * 10


def test_the_seeds_of_a_calibration_are_waited_for_one_after_the_other() -> None:
    found = expected(
        PROBES[:2],
        settings(strategies=STRATEGIES[:2], trials=2, search={"power_analysis": True}),
        replace(ROOM, concurrent=50),
    )
    assert found.hours == pytest.approx(5 * 10.0 / 3600)


def test_a_quota_that_leaves_room_for_the_best_alone_ends_no_sweep() -> None:
    swept = settings(limits={"disk_gib": 35 / GIB})
    found = expected(PROBES, swept, ROOM)
    assert (found.disk_bytes, found.least_disk_bytes) == (50, 30)
    assert not any(line.startswith("limits.") for line in lines(found, swept, ROOM))


def test_early_stopping_is_rehearsed() -> None:
    stopped = settings(early_stopping=EarlyStopping(grace=1, reduction=3))
    share = share_of_budget(stopped, 200)
    # One in three goes on after units 1 and 3, and those that come early more easily.
    ideal = (1 * 2 / 3 + 3 * 2 / 9 + 9 / 9) / 9
    assert ideal < share.units < 1.5 * ideal
    assert 1 / 9 < share.finished < 2 / 9
    assert share_of_budget(stopped, 1).units == 1
    found = expected(PROBES, stopped, ROOM)
    assert found.hours < 0.8 * found.most_hours


def test_limits_that_would_end_the_sweep_are_named_and_a_price_is_multiplied() -> None:
    swept = settings(limits={"gpu_hours": 0.01, "hours": 10, "price_per_gpu_hour": 4, "disk_gib": 1 / GIB})
    found = expected(PROBES, swept, ROOM)
    told = lines(found, swept, ROOM)
    assert "limits.gpu_hours: 0.01 would end the sweep before its last trial" in told
    assert any(line.startswith("limits.disk_gib") for line in told)
    assert not any(line.startswith("limits.hours") for line in told)
    assert any(line.startswith(f"cost       {found.gpu_hours * 4:.2f}; ") for line in told)


@pytest.mark.ray
def test_the_whole_table_and_no_folder(
    ray_cluster: None,
    tiny_backbones: dict[str, BackboneSettings],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del ray_cluster
    tiny: dict[str, Any] = {"data": TINY_DATA, "backbone": tiny_backbones["vit"], "budget": 4}
    swept = SweepSettings(strategies=("zero_shot", "full"), trials=6, storage=tmp_path / "runs", **tiny)
    assert estimate(swept) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert rows["zero_shot"][1] == "1"
    assert rows["full"][1] == "5"
    assert rows["trials"][1:] == ["6,", "2", "at", "a", "time", "on", "cpu"]
    assert {"time", "disk"} <= rows.keys()
    assert "GPU-hours" not in rows
    assert not (tmp_path / "runs").exists()
