"""Exports, held against the model they came from by the programs they are for."""

import json
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CustomTextCLIP
from torch.nn import functional as F

from handclip_core.errors import InputError
from handclip_core.models.names import CONFIG_FILE
from handclip_core.models.weights.origin import merged_updates
from handclip_core.runs.run_folder import BEST
from handclip_core.serving.card import model_card
from handclip_core.serving.export import CARD, ONNX, SCRIPT, export_run
from handclip_core.serving.model import ServedModel, open_run
from handclip_core.serving.onnx_file import IMAGES, VIEWS
from handclip_core.tasks.identities.evaluator import IdentityEvaluator
from handclip_core.types import ASPECT_INDEX, Aspect
from tests.handclip_core.serving.conftest import FinishedRun

pytestmark = pytest.mark.usefixtures("no_data")

ONNX_HOLDS = ("full", "lora", "adapters", "whitening", "uneven", "branches", "own", "scores", "clip_reid")


def random_images(num: int, served: ServedModel) -> np.ndarray:
    return np.random.default_rng(num).integers(0, 256, (num, served.size_px, served.size_px, 3), np.uint8)


@pytest.mark.parametrize("name", ONNX_HOLDS)
def test_onnx_embeds_like_torch_at_any_batch(name: str, finished: FinishedRun, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    served = open_run(finished(name).folder)
    assert "embeddings differ by" in export_run(served, tmp_path / "onnx", kind="onnx")
    session = runtime.InferenceSession(str(tmp_path / "onnx" / ONNX), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 17):
        images = random_images(batch, served)
        for aspect in (Aspect.UNKNOWN, Aspect.PALMAR_LEFT):
            given = {IMAGES: images}
            if served.model.tells_aspects:
                given[VIEWS] = np.full(batch, ASPECT_INDEX[aspect], np.int64)
            (found,) = session.run(None, given)
            np.testing.assert_allclose(found, served.embed_squares(images, aspect=aspect), atol=1e-4)
    views = np.arange(8) % len(ASPECT_INDEX)
    if served.model.tells_aspects:
        mixed = session.run(None, {IMAGES: random_images(8, served), VIEWS: views})[0]
        one_by_one = [
            served.embed_squares(random_images(8, served)[place : place + 1], aspect=list(Aspect)[view])[0]
            for place, view in enumerate(views)
        ]
        np.testing.assert_allclose(mixed, np.stack(one_by_one), atol=1e-4)


@pytest.mark.parametrize("name", ["full", "lora", "votes", "plda"])
def test_safetensors_are_a_run_of_their_own(name: str, finished: FinishedRun, tmp_path: Path) -> None:
    served = open_run(finished(name).folder)
    export_run(served, tmp_path / "out", kind="safetensors")
    again = open_run(tmp_path / "out")
    assert again.hash == served.hash
    np.testing.assert_allclose(
        again.embed_squares(random_images(3, served)), served.embed_squares(random_images(3, served)), atol=1e-6
    )
    assert not list(tmp_path.glob(".*"))


def test_open_clip_loads_the_tower_by_its_plain_call(finished: FinishedRun, tmp_path: Path) -> None:
    served = open_run(finished("probe").folder)
    # The text tower comes from the pretrained weights, for which random ones of the same shape stand here.
    backbone = served.experiment.backbone.model_copy(update={"name": f"local-dir:{served.folder}"})
    served = replace(served, experiment=served.experiment.model_copy(update={"backbone": backbone}))
    said = export_run(served, tmp_path / "out", kind="open_clip")
    assert f'open_clip.create_model("local-dir:{tmp_path / "out"}")' in said
    clip = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    images = random_images(3, served)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        found = F.normalize(clip.encode_image(pixels), dim=1)
    np.testing.assert_allclose(found, served.embed_squares(images), atol=1e-4)


@pytest.mark.parametrize("name", ["two_tower", "clip_lora"])
def test_open_clip_loads_the_text_tower_that_was_trained(name: str, finished: FinishedRun, tmp_path: Path) -> None:
    run = finished(name).folder
    export_run(open_run(run), tmp_path / "out", kind="open_clip")
    clip = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")(["a photo of a dorsal right hand"])
    state = torch.load(run / BEST, weights_only=True)
    trained = CustomTextCLIP(**json.loads((run / CONFIG_FILE).read_text())["model_cfg"])
    texts = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.text.")}
    merged = merged_updates(texts, alpha=2.0, source=run)
    trained.load_state_dict(merged, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_text(tokens), trained.eval().encode_text(tokens), atol=1e-5, rtol=0)
        assert clip.logit_scale == state["backbone.logit_scale"]


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("plda", "onnx", "a score of its own"),
        ("votes", "onnx", "a score of its own"),
        ("whitening", "open_clip", "a metric in closed form"),
        ("own", "open_clip", "a part for each view"),
        ("full", "open_clip", "output of a neck of kind 'bn'"),
        ("clip_reid", "open_clip", "read from 'both'"),
        ("probe", "open_clip", "a text tower, whose weights are not in the run"),
    ],
)
def test_what_cannot_be_exported_says_why_in_a_line(
    name: str, kind: str, reason: str, finished: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        export_run(open_run(finished(name).folder), tmp_path / "out", kind=kind)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_card_says_what_was_measured_and_on_whom(finished: FinishedRun, tmp_path: Path) -> None:
    served = open_run(finished("full").folder)
    export_run(served, tmp_path / "out", kind="safetensors")
    card = (tmp_path / "out" / CARD).read_text()
    found = served.validation.figures["mAP"]
    assert f"| mAP | {100 * found.value:.2f} | {100 * found.low:.2f} to {100 * found.high:.2f} | 3 |" in card
    assert "validated on, not trained on: 36 images of 3 people" in card
    assert "for all aspects alike: nobody is in two of them" in card
    assert "all others are queries; drawn 10 times for val and 10 times for test" in card
    assert "| skin_tone |" in card
    assert served.hash in card
    for title in ("Intended use", "Data", "Protocol", "Figures", "Decisions", "By group", "Cost", "Limits"):
        assert f"\n## {title}\n" in card


def test_a_model_card_says_which_vectors_of_the_tower_count(finished: FinishedRun) -> None:
    served = open_run(finished("whitening").folder)
    shares = dict(zip(served.model.vector_names, served.model.metric.shares(), strict=True))
    said = "; ".join(f"{name} {share:.0%}" for name, share in shares.items() if share)
    assert f"Of {len(shares)} vectors of the tower those count that together found most: {said}." in model_card(served)
    assert "vectors of the tower" not in model_card(open_run(finished("full").folder))


def test_what_no_graph_can_hold_is_one_line(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Unsupported: an operation\nInputs:\n  many lines")

    monkeypatch.setattr("torch.onnx.export", refuse)
    with pytest.raises(InputError, match=r"^onnx: .* a graph cannot hold \(Unsupported: an operation\)$"):
        export_run(open_run(finished("full").folder), tmp_path / "out", kind="onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_script_without_this_package_finds_the_same_people(finished: FinishedRun, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    run = finished("full")
    served = open_run(run.folder)
    export_run(served, tmp_path / "out", kind="onnx")
    known, asked = tmp_path / "known", tmp_path / "asked"
    for place, (file, name) in enumerate(zip(run.files, run.identities, strict=True)):
        side = known / name if place % 3 == 0 else asked
        side.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, side / f"{place:03}.jpg")
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); "
        "assert not {'torch', 'open_clip', 'handclip_core', 'pandas'} & set(sys.modules)"
    )
    words = [tmp_path / "out" / SCRIPT, tmp_path / "out" / ONNX, known, asked, "--out", tmp_path / "asked.npy"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *map(str, words)], capture_output=True, text=True, check=True
    )
    files = sorted(asked.iterdir())
    np.testing.assert_allclose(np.load(tmp_path / "asked.npy"), served.embed(files), atol=1e-4)
    enrolled = sorted(known.rglob("*.jpg"))
    scores = served.scores(served.embed(files), served.embed(enrolled))
    expected = [enrolled[place].parent.name for place in scores.argmax(axis=1)]
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == expected


def test_the_script_has_the_rank_1_of_the_evaluation_to_the_last_digit(finished: FinishedRun, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    run = finished("full")
    export_run(open_run(run.folder), tmp_path / "out", kind="onnx")
    tower = runpy.run_path(str(tmp_path / "out" / SCRIPT))["Tower"](str(tmp_path / "out" / ONNX))
    evaluator = run.context.evaluator("test")
    assert isinstance(evaluator, IdentityEvaluator)
    paths = run.context.prepared.paths()
    found = evaluator.scores_of(tower.embed([paths[row] for row in evaluator.rows])).metrics
    assert found["cmc1"] == run.test_metrics["cmc1"]
    assert found["map"] == pytest.approx(run.test_metrics["map"], abs=1e-6)


def test_an_onnx_file_says_how_images_become_its_input(finished: FinishedRun, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    served = open_run(finished("full").folder)
    export_run(served, tmp_path / "out", kind="onnx")
    session = runtime.InferenceSession(str(tmp_path / "out" / ONNX), providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["handclip"])
    assert (about["model"], about["size_px"], about["framing"], about["views"]) == (served.hash, 32, "squash", {})
