"""What a user types and what comes back: options are frozen, mistakes are one line and exit code 2."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.main import get_command

from handclip_core.__main__ import app, main
from handclip_core.data.sources import DrawnData
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_context
from handclip_core.strategies import serving
from handclip_core.tasks import IDENTITIES

OPTIONS = {
    "show": ["experiment"],
    "train": ["experiment", "--out", "--device", "--resume"],
    "evaluate": [
        "run", "--split", "--device", "--flip", "--ranking", "--hide-aspects", "--gallery", "--enrolled",
        "--distance", "--baseline", "--keep-embeddings", "--json",
    ],
    "compare": [
        "runs", "--split", "--device", "--flip", "--ranking", "--hide-aspects", "--gallery", "--enrolled",
        "--distance", "--baseline", "--keep-embeddings", "--out",
    ],
    "ensemble": ["runs", "--out", "--by", "--weights", "--device"],
    "search": ["run", "--images", "text", "--like", "--num", "--sheet", "--device"],
    "settings": ["key", "--schema"],
    "embed": ["run", "images", "--out", "--aspect", "--device"],
    "enrol": ["run", "folder", "--to", "--aspect", "--device"],
    "identify": ["run", "images", "--gallery", "--out", "--top", "--far", "--aspect", "--device"],
    "verify": ["run", "one", "other", "--far", "--device", "--json"],
    "calibrate": ["run", "folder", "--aspect", "--device"],
    "export": ["run", "--to", "--out"],
    "pretrain": ["settings"],
    "prepare drawn": [
        "root", "--out", "--people", "--images-per-aspect", "--height-px", "--sittings", "--cut", "--seed", "--json",
    ],
    "prepare classes": [
        "root", "--out", "--table", "--path-column", "--class-column", "--split-column", "--group-column", "--names",
        "--val-share", "--test-share", "--seed", "--skip-bad",
    ],
    "prepare captions": [
        "root", "--out", "--annotations", "--path-column", "--caption-column", "--split-column", "--val-share",
        "--test-share", "--seed", "--skip-bad",
    ],
    "prepare 11k": ["root", "--out", "--cut", "--seed", "--skip-bad", "--json"],
    "prepare hd": ["root", "--out", "--seed", "--skip-bad", "--json"],
    "prepare folder": [
        "root", "--out", "--table", "--path-column", "--identity-column", "--aspect-column", "--session-column",
        "--name-pattern", "--test-share", "--seed", "--skip-bad", "--json",
    ],
    "prepare check": ["folder"],
}  # fmt: skip
DATA = {"source": "drawn", "people": 12, "images_per_aspect": 3, "height_px": 96}


class Typed:
    """The command line in this process: exit code and what was printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["handclip_core", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = self._capfd.readouterr()
        return int(end.value.code or 0), out, err

    def refuses(self, *words: object) -> str:
        code, out, err = self(*words)
        lines = err.strip().splitlines()
        assert (code, out, len(lines)) == (2, "", 1), err
        assert "Traceback" not in err
        return lines[0]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capfd)


@pytest.fixture
def settings(tmp_path: Path, tiny_backbones: dict[str, BackboneSettings]) -> Path:
    return written(tmp_path / "experiment.yaml", backbone=tiny_backbones["vit"].model_dump(mode="json"))


def written(path: Path, **changes: Any) -> Path:
    optim = {"lr": 1e-3, "batch_size": 8}
    values = {"strategy": {"name": "full", "rates": "published", "optim": optim}, "data": DATA, "budget": 2} | changes
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_options_are_frozen() -> None:
    found = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for full, one in (
            {f"{name} {sub}": c for sub, c in getattr(command, "commands", {}).items()} or {name: command}
        ).items():
            found[full] = [p.opts[0] for p in one.params]
    assert found == OPTIONS


def test_help_needs_no_heavy_import() -> None:
    code = "import sys, handclip_core.__main__; print({'torch', 'pandas', 'open_clip', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("words", [[], ["seed"]], ids=["more than a buffer holds", "less"])
def test_output_that_finds_the_disk_full_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "handclip_core", "settings", *words]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (2, "error: output cannot be written: the disk is full\n")


def test_train_evaluate_compare(typed: Typed, settings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, _ = typed("train", settings, "--out", run)
    assert code == 0
    assert "unit 2/2" in out
    assert {path.name for path in run.iterdir()} == {
        "config.json", "handclip_best.pth", "handclip_final.pth", "handclip_optimizer.pth", "query_embeddings.npy",
        "gallery_embeddings.npy", "training_log.csv", "history.json", "train.log", "metrics.json", "model.json",
        "open_clip_config.json", "validation.json",
    }  # fmt: skip
    best = json.loads((run / "metrics.json").read_text())["best"]
    code, out, _ = typed("evaluate", run, "--baseline", "pixels", "--json")
    found = json.loads(out)
    assert found["scores"]["overall"]["map"]["mean"] == pytest.approx(best["map"], abs=1e-4)
    assert 0 < found["baselines"]["pixels"]["overall"]["map"]["mean"] < 1
    code, out, _ = typed("evaluate", run, "--split", "test", "--flip", "--ranking", "rerank")
    assert code == 0
    assert "dorsal right" in out
    code, out, _ = typed("compare", run, "--out", tmp_path / "tables")
    assert "clip (zero-shot)" in out
    assert (tmp_path / "tables" / "comparison.csv").read_text().startswith("model,scope")


def test_the_run_again_from_its_config_alone(typed: Typed, settings: Path, tmp_path: Path) -> None:
    for source, out in ((settings, "first"), (tmp_path / "first" / "config.json", "second")):
        assert typed("train", source, "--out", tmp_path / out)[0] == 0
    first, second = (
        torch.load(tmp_path / name / "handclip_final.pth", weights_only=True) for name in ("first", "second")
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    logs = [(tmp_path / name / "query_embeddings.npy") for name in ("first", "second")]
    assert np.array_equal(*map(np.load, logs))


def test_a_drawn_rate_reaches_the_optimizer_file(typed: Typed, settings: Path, tmp_path: Path) -> None:
    typed("train", settings, "--out", tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "handclip_optimizer.pth", weights_only=True)
    assert {group["lr"] for group in saved["optimizer"]["param_groups"]} == {1e-3}


def test_show_prints_the_plan_and_trains_nothing(typed: Typed, settings: Path) -> None:
    code, out, _ = typed("show", settings)
    assert code == 0
    assert "1 identity" in out
    assert "budget 2 x" in out


def test_show_alone_prints_the_plans_of_all_strategies(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    few = DrawnData.model_validate(DATA)
    monkeypatch.setattr("handclip_core.runs.context.open_context", lambda _, *others: open_context(few, *others))
    code, out, _ = typed("show")
    assert code == 0
    assert all(f"| {name} " in out for name in serving(IDENTITIES))


def test_prepare_drawn_then_check_then_use(
    typed: Typed, tmp_path: Path, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    words = ("prepare", "drawn", tmp_path / "hands", "--out", tmp_path / "prepared", "--people", 8, "--height-px", 96)
    code, out, _ = typed(*words, "--images-per-aspect", 2, "--json")
    assert (code, json.loads(out)["identities"]) == (0, 8)
    code, out, _ = typed("prepare", "11k", tmp_path / "hands", "--out", tmp_path / "again", "--cut", "common")
    assert "images of 8 people" in out.splitlines()[0]
    rows = {line[:23].strip(): line[23:].split() for line in out.splitlines()[1:]}
    assert rows["images of people"] == ["dorsal", "right", "dorsal", "left", "palmar", "right", "palmar", "left"]
    assert rows["search: trained on"] == ["4", "of", "2"] * 4
    assert rows["final test: tested on"] == ["8", "of", "4"] * 4
    assert rows["papers: train, validate"] == ["4,", "4"] * 4
    assert typed("prepare", "check", tmp_path / "prepared")[0] == 0
    data = {"source": "prepared", "folder": str(tmp_path / "prepared"), "aspects": ["palmar left"]}
    path = written(tmp_path / "e.yaml", data=data, backbone=tiny_backbones["vit"].model_dump(mode="json"))
    assert typed("train", path, "--out", tmp_path / "run")[0] == 0


def test_pretrain_makes_a_backbone_that_can_be_named(
    typed: Typed, tmp_path: Path, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    architecture = Path(tiny_backbones["vit"].name.removeprefix("local-dir:")) / "open_clip_config.json"
    sizes = {"people": 8, "images_per_aspect": 2, "held_out_people": 2, "draw_px": 40, "steps": 2, "batch": 8}
    values = {"out": str(tmp_path / "own"), "architecture": str(architecture), "workers": 1, "warmup_steps": 1}
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(values | sizes))
    assert typed("pretrain", tmp_path / "pretrain.yaml")[0] == 0
    path = written(tmp_path / "e.yaml", backbone={"name": f"local-dir:{tmp_path / 'own'}"})
    assert typed("show", path)[0] == 0


def test_a_finished_run_is_not_overwritten_or_resumed(typed: Typed, settings: Path, tmp_path: Path) -> None:
    typed("train", settings, "--out", tmp_path / "run")
    assert "--resume" in typed.refuses("train", settings, "--out", tmp_path / "run")
    assert "complete" in typed.refuses("train", settings, "--out", tmp_path / "run", "--resume")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"budgett": 3}, "unknown key 'budgett'"),
        ({"strategy": {"name": "full", "optim": {"lrr": 1}}}, "unknown key 'strategy.optim.lrr'"),
        ({"strategy": {"name": "magic"}}, "magic"),
        ({"budget": 0}, "budget: "),
        ({"data": {"source": "prepared", "folder": "nowhere"}}, "nowhere"),
        ({"data": DATA | {"aspects": ["unknown"]}}, "data.aspects: no image shows 'unknown'"),
        ({"backbone": {"name": "ViT-Z-99"}}, "backbone.name: unknown model 'ViT-Z-99'"),
        ({"backbone": {"name": "ViT-B-32"}}, "backbone.pretrained"),
        ({"backbone": {"name": "ViT-B-32", "pretrained": "no/such.pt"}}, "no/such.pt"),
    ],
)
def test_wrong_settings_are_one_line(
    typed: Typed,
    tmp_path: Path,
    tiny_backbones: dict[str, BackboneSettings],
    changes: dict[str, Any],
    expected: str,
) -> None:
    path = written(tmp_path / "e.yaml", **{"backbone": tiny_backbones["vit"].model_dump(mode="json")} | changes)
    assert expected in typed.refuses("train", path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{", "not readable"), ("[1, 2]", "settings"), ("", "settings"), ("strategy: \x00", "not readable")],
)
def test_a_file_that_is_no_settings(typed: Typed, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "e.yaml").write_text(text)
    line = typed.refuses("show", tmp_path / "e.yaml")
    assert "e.yaml" in line
    assert expected in line


def test_paths_that_are_not_there(typed: Typed, tmp_path: Path) -> None:
    assert "no such file" in typed.refuses("train", tmp_path / "none.yaml", "--out", tmp_path / "run")
    assert "no such folder; name the folder of a run" in typed.refuses("evaluate", tmp_path / "none")
    assert "none" in typed.refuses("prepare", "11k", tmp_path / "none", "--out", tmp_path / "p")
    assert "none" in typed.refuses("prepare", "check", tmp_path / "none")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(typed: Typed, settings: Path, tmp_path: Path) -> None:
    assert "CUDA" in typed.refuses("train", settings, "--out", tmp_path / "run", "--device", "cuda")


@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_damaged_weights_are_refused(typed: Typed, settings: Path, tmp_path: Path, damage: str) -> None:
    typed("train", settings, "--out", tmp_path / "run")
    weights = tmp_path / "run" / "handclip_best.pth"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        torch.save({"other": torch.zeros(1)}, weights)
    assert "handclip_best.pth" in typed.refuses("evaluate", tmp_path / "run")


def test_an_unknown_floor(typed: Typed, settings: Path, tmp_path: Path) -> None:
    typed("train", settings, "--out", tmp_path / "run")
    assert "choose among pixels, pixels_with_mean, hog" in typed.refuses(
        "evaluate", tmp_path / "run", "--baseline", "cellar"
    )
