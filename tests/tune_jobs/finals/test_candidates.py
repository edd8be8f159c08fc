from dataclasses import replace
from pathlib import Path

import pytest

from handclip_core.models.backbone import BackboneSettings
from handclip_core.strategies import Full, LinearProbe, ZeroShot
from tests.tune_jobs.finals.conftest import SweepFolder, Trials, full, write_sweep
from tune_jobs.finals.candidates import choose, fresh_seeds, hash_of
from tune_jobs.finals.past_sweep import read_sweep


def test_the_best_every_strategys_best_its_default_and_zero_shot_run_again(sweep_folder: SweepFolder) -> None:
    past = read_sweep(sweep_folder())
    found = {finalist.name: finalist.roles for finalist in choose(past, top=1)}
    assert found == {
        "full, trial 2": ("rank 1", "best full"),
        "linear_probe, trial 1": ("best linear_probe", "default"),
        "zero_shot, trial 0": ("best zero_shot", "zero_shot"),
        "full, default": ("default",),
    }
    assert len(choose(past, top=2)) == 5


def test_zero_shot_runs_even_where_the_sweep_left_it_out(sweep_folder: SweepFolder) -> None:
    past = read_sweep(sweep_folder([(full(1e-3), 0.7)]))
    assert [finalist.name for finalist in choose(past, top=5)] == [
        "full, trial 0",
        "zero_shot, default",
        "full, default",
    ]


def test_the_default_keeps_to_the_ranges_of_the_sweep(sweep_folder: SweepFolder) -> None:
    past = read_sweep(sweep_folder([(full(1e-3), 0.7)]))
    search = past.settings.search.model_copy(update={"ranges": {"optim/batch_size": (16, 64)}})
    narrowed = replace(past, settings=past.settings.model_copy(update={"search": search}))
    for sweep, sizes in ((past, {Full().optim.batch_size}), (narrowed, {16, 64})):
        (default,) = (one for one in choose(sweep, top=1) if one.name == "full, default")
        assert default.experiment.strategy.model_dump()["optim"]["batch_size"] in sizes
    assert Full().optim.batch_size not in (16, 64)


def test_a_strategy_that_only_failed_gets_its_default(sweep_folder: SweepFolder) -> None:
    past = read_sweep(sweep_folder([(ZeroShot(), 0.5), (full(1e-3), None)]))
    assert "full, default" in [finalist.name for finalist in choose(past, top=1)]


def test_one_configuration_is_one_finalist_whatever_its_seed(sweep_folder: SweepFolder) -> None:
    past = read_sweep(sweep_folder([(full(1e-3), 0.6), (full(1e-3), 0.7), (LinearProbe(), 0.5)]))
    first = choose(past, top=3)[0]
    assert (first.trial, first.swept_score) == (1, 0.7)
    assert first.on(1001).seed == 1001
    assert hash_of(first.on(1001)) == hash_of(first.on(1002)) == hash_of(first.experiment)
    assert hash_of(first.experiment.model_copy(update={"micro_batch": 4})) == hash_of(first.experiment)
    other = first.experiment.model_copy(update={"strategy": Full()})
    assert hash_of(other) != hash_of(first.experiment)


def test_defaults_of_different_strategies_have_different_names(sweep_folder: SweepFolder) -> None:
    past = read_sweep(sweep_folder())
    base = past.tried[0].experiment
    kinds = [base.model_copy(update={"strategy": strategy}) for strategy in (ZeroShot(), LinearProbe(), Full())]
    assert len({hash_of(experiment) for experiment in kinds}) == 3


@pytest.mark.parametrize(
    ("used", "num", "expected"), [((0,), 3, (1001, 1002, 1003)), ((0, 1002), 3, (1001, 1003, 1004)), ((), 1, (1001,))]
)
def test_fresh_seeds_are_never_the_sweeps(used: tuple[int, ...], num: int, expected: tuple[int, ...]) -> None:
    assert fresh_seeds(used, num) == expected
    assert fresh_seeds(used, num + 1)[:num] == expected


def test_with_several_backbones_every_strategy_runs_again_on_each(tmp_path: Path) -> None:
    large = BackboneSettings(name="timm/test_vit", pretrained="random")
    trials: Trials = [(full(1e-3), 0.6), (full(1e-3), 0.7), (full(3e-4), 0.65), (LinearProbe(), 0.5)]
    both = [BackboneSettings(), large]
    write_sweep(tmp_path / "two", trials, backbone=both)
    found = choose(read_sweep(tmp_path / "two"), top=1)
    assert {finalist.name: finalist.roles for finalist in found} == {
        "full@test_vit, trial 1": ("rank 1", "best full@test_vit"),
        "full@handclip-nano, trial 2": ("best full@handclip-nano",),
        "linear_probe@test_vit, trial 3": ("best linear_probe@test_vit", "default"),
        "zero_shot@handclip-nano, default": ("zero_shot",),
        "zero_shot@test_vit, default": ("zero_shot",),
        "full@handclip-nano, default": ("default",),
        "full@test_vit, default": ("default",),
    }
    assert all(one.experiment.backbone == both[one.backbone == "test_vit"] for one in found)
    assert len({one.key for one in found}) == len(found)
