"""The settings files that come with the package, each run to its end by the command, only shorter."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from handclip_core.commands import prepare
from handclip_core.models.backbone import BackboneSettings
from tests.tune_jobs.test_sweep import BEST_FILES, table
from tests.tune_jobs.test_sweep_command import invoke
from tune_jobs.config.settings import QUICKSTART, SweepSettings, load_settings

FILES = sorted(QUICKSTART.parent.glob("*.yaml"))
SMALL = ("data.people=12", "data.images_per_aspect=3", "data.height_px=96")


def prepared(folder: Path) -> list[str]:
    """Images drawn and prepared by the command, in place of the real ones."""
    drawing = ["--people", "8", "--images-per-aspect", "2", "--height-px", "96"]
    arguments = ["drawn", str(folder / "pictures"), "--out", str(folder / "prepared"), *drawing]
    result = CliRunner().invoke(prepare.app, arguments)
    assert result.exit_code == 0, result.output
    return [f"data.folder={folder / 'prepared'}"]


def of_backbone(backbone: BackboneSettings) -> list[str]:
    return [f"backbone.name={backbone.name}", f"backbone.pretrained={backbone.pretrained}"]


SHORTER: dict[str, Callable[[Path, BackboneSettings], list[str]]] = {
    "eleven_k.yaml": lambda folder, tiny: [
        *(*prepared(folder), *of_backbone(tiny)),
        "trials=14",
        "budget=4",
        "resources.cpus=1",
    ],
    "captions.yaml": lambda *_: [*SMALL, "trials=6", "budget=4"],
    "classes.yaml": lambda *_: [*SMALL, "trials=6", "budget=3"],
    "har.yaml": lambda folder, tiny: [
        *prepared(folder),
        *of_backbone(tiny),
        "trials=11",
        "budget=4",
        "resources.cpus=1",
    ],
    "retrieval.yaml": lambda folder, tiny: [
        *(*prepared(folder), *of_backbone(tiny)),
        "trials=7",
        "budget=4",
        "resources.cpus=1",
    ],
    "quickstart.yaml": lambda *_: [*SMALL, "trials=7", "budget=3"],
}
"""What lets a file end within a minute on two processors; all else stays as it is there."""
WITHOUT_GALLERIES = {name for name in BEST_FILES if not name.endswith(".npy")} - {"baselines.json"} | {"embeddings.npy"}
SELDOM = ("eleven_k.yaml", "har.yaml", "retrieval.yaml")
"""Files whose tasks and strategies others run as well, on data that is prepared: `make test-faults` has them."""
MAY_BE_SHORTER = {"name", "data", "backbone", "trials", "budget", "resources", "storage"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_is_valid_with_its_points_in_the_space(file: Path) -> None:
    settings = load_settings(file)
    drafts = settings.search.drafts(settings.strategies, settings.task)
    assert len(drafts) == len(settings.search.points)
    assert settings.trials >= 2 * len(settings.strategies)


def changed(file: SweepSettings, written: SweepSettings) -> set[str]:
    """The names of the settings that differ."""
    return {name for name in SweepSettings.model_fields if getattr(file, name) != getattr(written, name)}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=[pytest.mark.faults] if file.name in SELDOM else [], id=file.name) for file in FILES],
)
def test_every_file_runs_to_its_end(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, file: Path
) -> None:
    del ray_cluster
    assert file.name in SHORTER, f"tune_jobs/config/{file.name} is not tested: add to SHORTER what lets it end soon"
    overrides = [f"storage={tmp_path}", "resources.concurrent=1", *SHORTER[file.name](tmp_path, tiny_backbones["vit"])]
    code, output = invoke(str(file), *(word for override in overrides for word in ("--set", override)))
    assert code == 0, output
    settings = load_settings(file)
    check_outcome(tmp_path / settings.name, settings)
    assert "no trial is stopped early" not in output
    assert ("linear_probe on 5 seeds: validation mAP" in output) == settings.search.power_analysis


def check_outcome(folder: Path, settings: SweepSettings) -> None:
    """The whole of a sweep over what ``settings`` say is in ``folder``."""
    written, rows = load_settings(folder / "sweep.yaml"), table(folder)
    assert changed(settings, written) <= MAY_BE_SHORTER
    assert sorted(int(row["trial"]) for row in rows) == list(range(written.trials))
    assert {row["strategy"] for row in rows} == set(settings.strategies)
    assert {row["status"] for row in rows} <= {"complete", "stopped"}
    assert all(row["rank"] for row in rows)
    files = {path.name for path in (folder / "best").iterdir()}
    assert files == (BEST_FILES if settings.task.name == "identities" else WITHOUT_GALLERIES)


def test_no_entry_is_left_of_a_file_that_is_gone() -> None:
    assert set(SHORTER) <= {file.name for file in FILES}
