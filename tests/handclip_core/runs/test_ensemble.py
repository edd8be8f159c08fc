"""Ensembles: figures and weights by slow loops, a folder that is used as a run's is, and refusals by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from handclip_core.__main__ import app
from handclip_core.data.manifest import PROTOCOL_NAME, load_prepared, write_prepared
from handclip_core.data.sources import PreparedData
from handclip_core.engine.state import save_tensors
from handclip_core.errors import InputError
from handclip_core.evaluation.joined import FusedBy
from handclip_core.evaluation.similarity import Distance
from handclip_core.models.backbone import BackboneSettings
from handclip_core.reports.measure import View
from handclip_core.reports.report import compare_runs, evaluate_run
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.ensemble import make_ensemble
from handclip_core.runs.ensemble_file import read_ensemble
from handclip_core.runs.loaded import LoadedRun, load_finished
from handclip_core.runs.run_folder import load_tensors
from handclip_core.runs.validation import read_validation
from handclip_core.serving.card import model_card
from handclip_core.serving.export import export_run
from handclip_core.serving.model import open_run
from handclip_core.tasks.classes.scores import ClassScores
from tests.ensembles import Runs, Slow

CPU = torch.device("cpu")
VAL = View("val")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: dict[str, BackboneSettings]) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), tiny_backbones["vit"])


@pytest.fixture(scope="module")
def both(runs: Runs) -> Path:
    """Scores of a transformer and of one that reads other squares, fused."""
    folder = runs.folder / "both"
    make_ensemble([runs("whitened"), runs("padded")], folder, device=CPU)
    return folder


def test_scales_weights_and_figures_are_those_of_slow_loops(runs: Runs, both: Path) -> None:
    slow, about = Slow([runs("whitened"), runs("padded")]), read_ensemble(both)
    scale = slow.scale()
    np.testing.assert_allclose(about.means, [mean for mean, _ in scale], atol=1e-6)
    np.testing.assert_allclose(about.deviations, [sd for _, sd in scale], atol=1e-6)
    grid = {share: slow.map(slow.fused((share, 1 - share), scale)) for share in np.linspace(0, 1, 21)}
    chosen = slow.map(slow.fused(about.weights, scale))
    assert chosen == pytest.approx(max(grid.values()), abs=1e-9)
    found = evaluate_run(both, device=CPU, view=VAL).values["scores"]["overall"]["map"]["mean"]
    assert found == pytest.approx(slow.map(slow.fused(about.weights, scale)), abs=1e-9)
    assert about.gain is not None
    alone = [slow.map(each) for each in slow.each]
    assert about.gain.difference.value == pytest.approx(found - max(alone), abs=1e-9)
    assert about.gain.best == ("1-" if alone[0] >= alone[1] else "2-") + about.gain.best[2:]
    assert about.gain.num_people == len(set(slow.manifest["identity"][slow.evaluator.rows]))


@pytest.mark.parametrize("by", [FusedBy.SCORE, FusedBy.VOTE])
def test_likelihood_ratios_are_fused_as_they_are(runs: Runs, by: FusedBy, tmp_path: Path) -> None:
    folders = [runs("plda"), runs("padded"), runs("plain")]
    made = make_ensemble(folders, tmp_path / "out", by=by, device=CPU)
    slow = Slow(folders)
    found = evaluate_run(tmp_path / "out", device=CPU, view=VAL).values["scores"]["overall"]["map"]["mean"]
    assert made.together == pytest.approx(found, abs=1e-9)
    if by is FusedBy.SCORE:
        expected = slow.map(slow.fused(made.about.weights, slow.scale()))
        assert found == pytest.approx(expected, abs=1e-4)
    else:
        assert made.about.weights == (1 / 3,) * 3
        assert "fitted to" not in made.text()
    served = open_run(tmp_path / "out")
    assert not served.ranks_by_cosine
    with pytest.raises(InputError, match="a score of its own; leave the option out"):
        evaluate_run(tmp_path / "out", device=CPU, view=View("val", distance=Distance.EUCLIDEAN))
    assert evaluate_run(tmp_path / "out", device=CPU, view=VAL).values["distance"] == "own"
    for measured in (evaluate_run, lambda folder, **asked: compare_runs([folder], **asked)):
        with pytest.raises(InputError, match="--flip: is for single runs"):
            measured(tmp_path / "out", device=CPU, view=View("val", flip=True))
    with pytest.raises(InputError, match="a score of its own"):
        export_run(served, tmp_path / "onnx", kind="onnx")


def test_an_ensemble_is_a_row_of_a_comparison_beside_its_members(runs: Runs, both: Path) -> None:
    table = compare_runs([runs("whitened"), runs("padded"), both], device=CPU, view=VAL).markdown
    names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    assert [name.split("/")[-1] for name in names[:2]] == ["vit (zero-shot)", "larger (zero-shot)"]
    assert names[2:] == ["whitened", "padded", "both"]


def test_it_needs_nothing_but_its_folder(
    runs: Runs, both: Path, tiny_context: ExperimentContext, tmp_path: Path
) -> None:
    shutil.copytree(both, tmp_path / "elsewhere")
    served = open_run(tmp_path / "elsewhere")
    rows = tiny_context.rows("val")[:5]
    found = served.embed([tiny_context.prepared.paths()[row] for row in rows])
    loaded = load_finished(both, device=CPU)
    whole = loaded.context.evaluator("val").embedded(loaded.model, loaded.inputs)
    np.testing.assert_allclose(found, whole[:5], atol=2e-6)
    assert served.hash == open_run(both).hash != open_run(runs("whitened")).hash
    assert read_validation(both).thresholds == served.validation.thresholds
    assert served.validation.figures["mAP"].value > 0
    card = model_card(served)
    assert "ensemble of 2 models" in card
    assert "| padded" in card.replace("| 2-", "| ").replace(runs("padded").parent.name + "-", "")
    export_run(served, tmp_path / "exported", kind="safetensors")
    np.testing.assert_allclose(
        open_run(tmp_path / "exported").embed([tiny_context.prepared.paths()[rows[0]]]), found[:1], atol=1e-5
    )
    with pytest.raises(InputError, match="one file reads one input, and the ensemble's members read 32 px by squash"):
        export_run(served, tmp_path / "onnx", kind="onnx")
    with pytest.raises(InputError, match="several towers"):
        export_run(served, tmp_path / "open_clip", kind="open_clip")
    member = min((tmp_path / "elsewhere" / "members").iterdir())
    shutil.copy(runs("plain") / "handclip_best.pth", member / "handclip_best.pth")
    shutil.copy(runs("plain") / "config.json", member / "config.json")
    with pytest.raises(InputError, match="not the weights that the ensemble was made of"):
        open_run(tmp_path / "elsewhere")
    shutil.rmtree(member)
    with pytest.raises(InputError, match=r"has no model\.json"):
        open_run(tmp_path / "elsewhere")


def test_the_commands_that_use_a_run_take_it(both: Path, tiny_context: ExperimentContext, tmp_path: Path) -> None:
    names, paths = tiny_context.identities, tiny_context.prepared.paths()
    asked = [int(row) for row in tiny_context.rows("test")][:30:5]
    for row in asked:
        (tmp_path / "people" / names[row]).mkdir(parents=True, exist_ok=True)
        shutil.copy(paths[row], tmp_path / "people" / names[row])

    def typed(command: str, *words: object, run: Path = both) -> str:
        result = CliRunner().invoke(app, [command, str(run), *map(str, words)], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    served, first = open_run(both), paths[asked[0]]
    typed("embed", tmp_path / "people", "--out", tmp_path / "vectors.npy")
    vectors, files = np.load(tmp_path / "vectors.npy"), sorted((tmp_path / "people").rglob("*.jpg"))
    np.testing.assert_allclose(vectors, served.embed(files), atol=1e-6)
    assert "enrolled 6 images" in typed("enrol", tmp_path / "people", "--to", tmp_path / "gallery")
    typed("identify", first, "--gallery", tmp_path / "gallery", "--out", tmp_path / "out")
    (found,) = json.loads((tmp_path / "out" / "identified.json").read_text())["results"]
    assert found["candidates"][0]["identity"] == names[asked[0]]
    said = json.loads(typed("verify", files[0], files[1], "--far", 0.1, "--json"))
    assert said["score"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    best = typed("search", "--like", first, "--images", tmp_path / "people", "-k", 1).split()
    assert (best[0], Path(best[1]).name) == ("1.0000", first.name)
    with pytest.raises(InputError, match="compared with images alone: name one by --like"):
        typed("search", "a hand", "--images", tmp_path / "people")
    shutil.copytree(both, tmp_path / "own")
    assert "pairs of one person" in typed("calibrate", tmp_path / "people", run=tmp_path / "own")


def test_features_of_one_kind_of_image_are_one_onnx_file(runs: Runs, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    made = make_ensemble([runs("whitened"), runs("plain")], tmp_path / "out", weights=[3, 1], device=CPU)
    assert (made.about.by, made.about.weights) == (FusedBy.FEATURE, (0.75, 0.25))
    assert made.about.gain is not None
    assert made.about.gain.crossed is None
    assert "differ by" in export_run(open_run(tmp_path / "out"), tmp_path / "onnx", kind="onnx")


def test_final_models_are_fused_by_given_shares_and_measured_on_the_test_alone(runs: Runs, tmp_path: Path) -> None:
    folders = [runs("final"), runs("final2")]
    with pytest.raises(InputError, match=r"final: was trained on the validation people too.*--weights"):
        make_ensemble(folders, tmp_path / "out", device=CPU)
    made = make_ensemble(folders, tmp_path / "out", weights=[1, 1], device=CPU)
    assert "not measured" in made.text()
    with pytest.raises(InputError, match="validation identities too"):
        evaluate_run(tmp_path / "out", device=CPU, view=VAL)
    assert evaluate_run(tmp_path / "out", device=CPU, view=View("test")).values["scores"]["overall"]["map"]["mean"] > 0
    assert not open_run(tmp_path / "out").validation.thresholds.points


def test_probabilities_of_classifiers_are_averaged(runs: Runs, tmp_path: Path) -> None:
    folders = [runs("classes"), runs("classes2")]
    made = make_ensemble(folders, tmp_path / "out", device=CPU)
    whole = load_finished(tmp_path / "out", device=CPU)
    scores = [one.context.evaluator("val").evaluate(one.model, one.inputs) for one in map(load_on_cpu, folders)]
    together = whole.context.evaluator("val").evaluate(whole.model, whole.inputs)
    assert isinstance(together, ClassScores)
    probabilities = [one.probabilities for one in scores if isinstance(one, ClassScores)]
    mixed = sum(w * p for w, p in zip(made.about.weights, probabilities, strict=True))
    np.testing.assert_allclose(together.probabilities, mixed, atol=1e-9)
    shares = np.linspace(0, 1, 21)
    grid = [((s * probabilities[0] + (1 - s) * probabilities[1]).argmax(axis=1) == together.truth) for s in shares]
    assert together.metrics["accuracy"] == max(hits.mean() for hits in grid)
    assert "accuracy" in evaluate_run(tmp_path / "out", device=CPU, view=VAL).text
    member = next((tmp_path / "out" / "members").glob("2-*"))
    state = load_tensors(member / "handclip_best.pth")
    changed = next(name for name in state if name.startswith("head."))
    save_tensors({**state, changed: state[changed] + 1}, member / "handclip_best.pth")
    open_run(tmp_path / "out")  # embeds as before
    with pytest.raises(InputError, match=r"2-.*not the weights that the ensemble was made of"):
        load_finished(tmp_path / "out", device=CPU)
    with pytest.raises(InputError, match=r"models of the task classes are fused by score$"):
        make_ensemble(folders, tmp_path / "no", by=FusedBy.VOTE, device=CPU)


def load_on_cpu(folder: Path) -> LoadedRun:
    return load_finished(folder, device=CPU)


def test_the_command_says_what_it_is_worth(runs: Runs, tmp_path: Path) -> None:
    words = ["ensemble", str(runs("plain")), str(runs("padded")), "--out", str(tmp_path / "out")]
    said = CliRunner().invoke(app, [*words, "--by", "feature"], catch_exceptions=False).output
    assert "together mAP" in said
    assert "by 3 validation people, whom its weights were fitted to as well" in said
    assert "one half" not in said  # of so few
    with pytest.raises(InputError, match="--weights a: write numbers"):
        CliRunner().invoke(app, [*words, "--weights", "a"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("plain",), "two runs at least"),
        (("plain", "plain"), "is named twice"),
        (("plain", "both"), "is an ensemble itself"),
        (("plain", "captions"), "learned the task captions"),
        (("plain", "classes"), "has another task"),
        (("plain", "other_cut"), "other data, or another split"),
        (("plain", "own_gallery"), r"other data\.gallery"),
    ],
)
def test_runs_that_may_not_stand_together(
    names: tuple[str, ...], reason: str, runs: Runs, both: Path, tmp_path: Path
) -> None:
    folders = [both if name == "both" else runs(name) for name in names]
    with pytest.raises(InputError, match=reason) as refused:
        make_ensemble(folders, tmp_path / "out", device=CPU)
    assert len(names) == 1 or str(folders[-1]) in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_runs_whose_best_units_were_chosen_by_other_figures_stand_together(runs: Runs, tmp_path: Path) -> None:
    made = make_ensemble([runs("by_rank"), runs("padded")], tmp_path / "out", device=CPU)
    assert made.label == "rank-1"
    assert len(made.scores) == 2


def test_how_and_where_is_looked_at(runs: Runs, tmp_path: Path) -> None:
    two = [runs("plain"), runs("plda")]
    for by, weights, reason in (
        (FusedBy.FEATURE, None, "plda: compares vectors by likelihood ratios"),
        (FusedBy.SCORE, [1, 1], "are shares of features"),
    ):
        with pytest.raises(InputError, match=reason):
            make_ensemble(two, tmp_path / "out", by=by, weights=weights, device=CPU)
    for wrong in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(InputError, match="2 runs need as many numbers"):
            make_ensemble([runs("plain"), runs("whitened")], tmp_path / "out", weights=wrong, device=CPU)
    with pytest.raises(InputError, match="votes have none"):
        make_ensemble(two, tmp_path / "out", by=FusedBy.VOTE, weights=[1, 1], device=CPU)
    with pytest.raises(InputError, match="is not empty"):
        make_ensemble([runs("plain")], runs("plain"), device=CPU)


def test_a_member_is_whole_and_what_fails_leaves_nothing(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs("plain"), tmp_path / "half")
    (tmp_path / "half" / "validation.json").unlink()
    with pytest.raises(InputError, match=r"half: has no validation\.json"):
        make_ensemble([runs("whitened"), tmp_path / "half"], tmp_path / "out", weights=[1, 1], device=CPU)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    before = set(tmp_path.iterdir())
    monkeypatch.setattr("handclip_core.runs.ensemble.validation_file", full)
    with pytest.raises(OSError, match="no space left"):
        make_ensemble([runs("whitened"), runs("plain")], tmp_path / "out", weights=[1, 1], device=CPU)
    assert set(tmp_path.iterdir()) == before


def test_the_folder_that_one_stands_in_can_be_named(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make_ensemble([runs("whitened"), runs("plain")], Path(), weights=[1, 1], device=CPU)
    assert len(read_ensemble(tmp_path / "here").members) == 2


def test_data_that_were_cut_or_drawn_anew_are_noticed(
    runs: Runs, tiny_context: ExperimentContext, tmp_path: Path
) -> None:
    prepared = tiny_context.prepared
    shutil.copytree(prepared.folder, tmp_path / "data", ignore=shutil.ignore_patterns("pictures"))
    data = PreparedData(source="prepared", folder=tmp_path / "data")
    moved = runs.train(tmp_path / "moved", {"strategy": {"name": "whitening"}, "data": data})
    make_ensemble([runs("plain"), moved], tmp_path / "fine", device=CPU)
    here = load_prepared(tmp_path / "data")
    draws = {**here.protocol.draws, "val": here.protocol.draws["val"][::-1]}
    path = tmp_path / "data" / PROTOCOL_NAME
    before = path.read_bytes()
    write_prepared(type(here)(here.root, here.folder, here.manifest, here.protocol.model_copy(update={"draws": draws})))
    open_context.cache_clear()
    with pytest.raises(InputError, match="moved: its data have other gallery draws"):
        make_ensemble([runs("plain"), moved], tmp_path / "out", device=CPU)
    path.write_bytes(before)
    about = json.loads((moved / "model.json").read_text())
    (moved / "model.json").write_text(json.dumps({**about, "manifest_hash": "0" * 64}))
    open_context.cache_clear()
    with pytest.raises(InputError, match=r"moved: was trained on data that .* does not hold any more"):
        make_ensemble([runs("plain"), moved], tmp_path / "out", device=CPU)
