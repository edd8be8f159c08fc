from pathlib import Path

import pytest
import yaml

from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.errors import InputError
from search_spaces.spaces import SPACES
from tune_jobs.config.settings import QUICKSTART, Resources, SweepSettings, dump_settings, load_settings


def test_the_quickstart_searches_every_strategy_on_drawn_hands() -> None:
    settings = load_settings(QUICKSTART)
    assert settings.name == "quickstart"
    assert settings.strategies[0] == "zero_shot"
    assert set(settings.strategies) <= set(SPACES)
    assert isinstance(settings.data, DrawnData)
    assert settings.trials > len(settings.strategies)


def test_overrides_reach_nested_keys_and_read_values_as_yaml() -> None:
    overrides = [
        "data.people=60",
        "strategies=[full, adapters]",
        "early_stopping.kind=none",
        "resources.concurrent=null",
    ]
    settings = load_settings(QUICKSTART, overrides=overrides, name="mine")
    assert isinstance(settings.data, DrawnData)
    assert (settings.data.people, settings.strategies, settings.name) == (60, ("full", "adapters"), "mine")
    assert (settings.early_stopping.kind, settings.resources.concurrent) == ("none", None)


def test_another_data_source_drops_the_keys_of_the_old_one() -> None:
    settings = load_settings(QUICKSTART, overrides=["data.source=prepared", "data.folder=some/where"])
    assert settings.data == PreparedData(source="prepared", folder=Path("some/where"))
    assert load_settings(QUICKSTART, overrides=["data.source=drawn"]).data == load_settings(QUICKSTART).data


def test_the_complete_settings_survive_the_way_through_yaml(tmp_path: Path) -> None:
    settings = load_settings(QUICKSTART, overrides=["data.people=60"])
    written = tmp_path / "sweep.yaml"
    written.write_text(dump_settings(settings))
    assert load_settings(written) == settings
    assert all(f"{key}:" in written.read_text() for key in SweepSettings.model_fields)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    assert load_settings(empty) == SweepSettings()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trails=5"], "unknown key 'trails'; did you mean 'trials'?"),
        (["data.poeple=5"], "unknown key 'data.poeple'; did you mean 'people'?"),
        (["early_stopping.gracee=1"], "unknown key 'early_stopping.gracee'; did you mean 'grace'?"),
        (["trials=yes"], "trials: true (or yes) is no whole number"),
        (["limits.hours=no"], "limits.hours: false (or no) is no number"),
        (["limits.hours=.inf"], "limits.hours: inf is no finite number"),
        (["limits.hours=.nan"], "limits.hours: nan is no finite number"),
        (["trials=020"], "--set 'trials=020': line 1: 020 has a leading zero"),
        (["stall_minutes=1:30"], "1:30 would be read as a number of base 60"),
        (["strategies=[lora]", "search.ranges={lora/rank: [4, .inf]}"], "lora/rank: inf lies outside"),
        (["search.ranges={optim/lr: [.nan, 1.0e-3]}"], "optim/lr: nan lies outside"),
        (
            ["trials=6", "search.points=[{strategy: full}]"],
            "search.points: 1 after the defaults of 6",
        ),
        ([f"name={'n' * 101}"], "name: "),
        (["data.source=prepared", 'data.folder="a\\0b"'], "data.folder: a\\x00b: holds a control character"),
        (["data.source=prepared", "data.folder=$NO_SUCH_VARIABLE/x"], "there is no such user or variable"),
        (["storage=~no_such_user/x"], "storage: ~no_such_user/x: there is no such user or variable"),
        (["storage=s3:/bucket/runs"], "is neither a folder nor a URI; a URI begins with s3://"),
        (["storage=S3:bucket"], "a URI begins with S3://"),
        (["warm_start=gs:/bucket/sweep"], "warm_start: "),
        (["strategies=[full, bogus]"], "unknown strategy 'bogus'; choose from zero_shot, whitening, linear_probe"),
        (["strategies=[full, full]"], "name each strategy once"),
        (["strategies=[]"], "at least one"),
        (["trials=3"], "3 are too few for the defaults of 6 strategies; set trials to 6 or more"),
        (["budget=0"], "budget: "),
        (["name=a/b"], "name: "),
        (["resources.device=tpu"], "resources.device: "),
        (["early_stopping.reduction=1"], "early_stopping.reduction: "),
        (["people"], "--set 'people': write key=value"),
        (["data.=3"], "--set 'data.=3': write key=value"),
        (["trials.deep=3"], "--set 'trials.deep=3': 'trials' holds a value, not keys"),
        (["data={"], "--set 'data={': line 1: not readable as YAML"),
        (["data=3", "data.source=drawn"], "--set 'data.source=drawn': 'data' holds a value, not keys"),
        (["resources.workers=2", "backbone.batch_norm=moving"], "resources.workers: statistics that move"),
        (["storage=3"], "storage: 3 is neither a folder nor a URI"),
        (["storage=null"], "storage: None is neither a folder nor a URI"),
        (
            ["search.sampler=cmaes", "search.objectives=[map, seconds]"],
            "search.sampler: cmaes knows one objective only; choose tpe, gp or random",
        ),
    ],
)
def test_wrong_settings_are_one_line_that_names_the_key(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError) as refused:
        load_settings(QUICKSTART, overrides=overrides)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_order_of_overrides_makes_no_difference(order: tuple[int, ...]) -> None:
    overrides = ["data.folder=some/where", "data.source=prepared", "data={aspects: [palmar left]}"]
    found = load_settings(QUICKSTART, overrides=[overrides[place] for place in order]).data
    assert found == PreparedData(source="prepared", folder=Path("some/where"))
    whole = ["early_stopping.grace=3", "early_stopping={kind: none}"]
    assert load_settings(QUICKSTART, overrides=whole) == load_settings(QUICKSTART, overrides=whole[::-1])


def test_home_and_variables_are_put_into_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("SCRATCH", "/scratch/7")
    overrides = ["data.source=prepared", "data.folder=$HOME/hands", "storage=~/runs", "warm_start=${SCRATCH}/old"]
    overrides += ["backbone.name=local-dir:~/clip", "backbone.pretrained=$SCRATCH/clip.pt"]
    settings = load_settings(QUICKSTART, overrides=overrides)
    assert settings.backbones[0].name == "local-dir:/home/someone/clip"
    assert settings.backbones[0].pretrained == "/scratch/7/clip.pt"
    assert isinstance(settings.data, PreparedData)
    assert settings.data.folder == Path("/home/someone/hands")
    assert (settings.storage, settings.warm_start) == (Path("/home/someone/runs"), Path("/scratch/7/old"))


def test_a_backbone_is_given_by_its_name_or_with_more() -> None:
    by_name, with_more, listed = (
        load_settings(QUICKSTART, overrides=[f"backbone={given}"])
        for given in ("ViT-B-32", "{name: ViT-B-32}", "[ViT-B-32]")
    )
    assert by_name == with_more == listed
    assert by_name.backbones[0].name == "ViT-B-32"
    with pytest.raises(InputError, match="full@RN50: its backbone is not in this sweep; choose from zero_shot, "):
        by_name.backbone_of("full@RN50")


def test_points_that_trials_have_room_for_are_taken() -> None:
    overrides = ["trials=2", "strategies=[full]", "search.points=[{strategy: full, optim/lr: 1.0e-4}]"]
    assert len(load_settings(QUICKSTART, overrides=overrides).search.points) == 1


def test_a_file_that_is_missing_or_no_mapping_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.yaml: no such file"):
        load_settings(tmp_path / "missing.yaml")
    listing = tmp_path / "list.yaml"
    listing.write_text("- a\n- b\n")
    with pytest.raises(InputError, match=r"list\.yaml: not a mapping of settings"):
        load_settings(listing)


@pytest.mark.parametrize("file", sorted(QUICKSTART.parent.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_settings_that_come_with_the_package_are_whole(file: Path) -> None:
    settings = load_settings(file)
    assert settings.trials >= 2 * len(settings.strategies)
    assert settings.early_stopping.grace < settings.budget
    assert SweepSettings.parse(yaml.safe_load(dump_settings(settings)), source="dumped") == settings


def test_gpus_above_one_are_whole() -> None:
    assert [Resources(gpus=gpus).gpus for gpus in (0.3, 1, 2)] == [0.3, 1, 2]
    with pytest.raises(ValueError, match=r"1\.5 GPUs: above 1 Ray gives out whole ones alone"):
        Resources(gpus=1.5)
