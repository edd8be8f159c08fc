"""What a sweep's data and weights allow is said before Ray starts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handclip_core.data.folder import prepare_folder
from handclip_core.data.sources import PreparedData
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from tune_jobs.config.settings import SETTINGS, SweepSettings, dump_settings, load_settings
from tune_jobs.lifecycle.fitting import NEED_ASPECTS, fitted
from tune_jobs.lifecycle.reopening import reopen


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of eight people, of unknown aspect, prepared."""
    root = tmp_path_factory.mktemp("hands")
    for number in range(24):
        image = Image.fromarray(np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8))
        (root / f"p{number // 3}").mkdir(exist_ok=True)
        image.resize((96, 72), Image.Resampling.BICUBIC).save(root / f"p{number // 3}" / f"{number}.png")
    out = tmp_path_factory.mktemp("prepared")
    prepare_folder(root, out)
    return out


def settings(folder: Path, storage: Path, *strategies: str) -> SweepSettings:
    data = PreparedData(source="prepared", folder=folder)
    return SweepSettings(name="mine", data=data, strategies=strategies, storage=storage)


def test_strategies_that_need_aspects_are_left_out_where_there_are_none(
    unknown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert NEED_ASPECTS == ("sequential", "sequential_ewc", "multi_branch", "aspect_specific")
    wanted = settings(unknown, tmp_path, "zero_shot", "sequential", "full", "multi_branch")
    found = fitted(wanted)
    assert found == settings(unknown, tmp_path, "zero_shot", "full")
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert "left out of the sweep: sequential, multi_branch, since no training image has a known aspect" in told
    assert fitted(found) == found
    assert capsys.readouterr().out == ""


def test_a_sweep_of_nothing_else_is_refused(unknown: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sequential, aspect_specific: no training image has a known aspect"):
        fitted(settings(unknown, tmp_path, "sequential", "aspect_specific"))


def test_points_of_a_strategy_that_is_left_out_are_refused(unknown: Path, tmp_path: Path) -> None:
    found = settings(unknown, tmp_path, "full", "sequential")
    values = found.model_dump() | {"search": {"points": [{"strategy": "sequential"}]}}
    with pytest.raises(InputError, match=r"search.points\[0\]: 'sequential' is not one of full"):
        fitted(SweepSettings.model_validate(values))


def test_drawn_hands_have_aspects(tmp_path: Path) -> None:
    wanted = SweepSettings(name="mine", storage=tmp_path, strategies=NEED_ASPECTS)
    assert fitted(wanted) == wanted


def test_a_sweep_is_taken_up_by_the_settings_that_it_was_begun_with(unknown: Path, tmp_path: Path) -> None:
    wanted = settings(unknown, tmp_path / "runs", "zero_shot", "sequential")
    (tmp_path / "mine.yaml").write_text(dump_settings(wanted))
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / SETTINGS).write_text(dump_settings(fitted(load_settings(tmp_path / "mine.yaml"))))
    assert reopen(tmp_path / "mine.yaml", name=None, overrides=[]).settings.strategies == ("zero_shot",)


def test_what_cannot_be_used_is_named_before_anything_starts(
    unknown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"storage: .*file/runs: lies below a file"):
        fitted(settings(unknown, tmp_path / "file" / "runs", "full"))
    missing = settings(tmp_path / "none", tmp_path, "full")
    with pytest.raises(InputError, match=r"none/protocol.json: no such file; run `prepare`"):
        fitted(missing)
    weights = BackboneSettings(name="ViT-B-32", pretrained=str(tmp_path / "no.pt"))
    with pytest.raises(InputError, match=r"no\.pt"):
        fitted(settings(unknown, tmp_path, "full").model_copy(update={"backbone": weights}))
    monkeypatch.setenv("RAY_ADDRESS", "ray-head:6379")
    assert fitted(missing) == missing, "what the nodes of a cluster see is theirs to say"
