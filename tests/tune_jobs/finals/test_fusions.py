"""The fusion of finalists: who is fused, and what the row is worth."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from handclip_core.evaluation import fusion
from handclip_core.evaluation.storage import load_scores, save_scores
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_context
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import FINAL, load_run
from handclip_core.strategies import ZeroShot
from handclip_core.tasks import answers as fitting
from handclip_core.tasks.captions.task import Captions
from handclip_core.tasks.identities.answers import GalleryAnswers
from handclip_core.tasks.identities.evaluator import IdentityEvaluator
from handclip_core.tasks.identities.task import Identities
from tests.conftest import TINY_DATA
from tests.lora_runs import CPU, FIRST, lora_run
from tests.tune_jobs.finals.entries import facts, finalist, scores
from tune_jobs.finals.candidates import Finalist
from tune_jobs.finals.fusions import best_of_backbones, fuse, fusion_of
from tune_jobs.finals.mixtures import Complete, Kind, group_name

SEEDS = (1001, 1002)
TOWERS = ("vit", "resnet")


def complete(folder: Path, one: Finalist, noise: float) -> Complete:
    """A finalist whose runs score by ``noise``."""
    folders = tuple(folder / f"{one.key}-{one.backbone}-{seed}" for seed in SEEDS)
    for seed, where in enumerate(folders):
        save_scores(where / "scores.npz", scores(noise, seed))
    return Complete(one, folders, tuple(facts() for _ in SEEDS), folders)


def test_the_best_configuration_of_each_backbone_is_fused(tmp_path: Path) -> None:
    of_a = [complete(tmp_path, finalist(name, trial=1, backbone="a"), noise) for name, noise in (("full", 0.6),
            ("adapters", 0.4), ("zero_shot", 0.9))]  # fmt: skip
    of_b = [complete(tmp_path, finalist("full", trial=2, backbone="test_vit"), 0.2)]
    assert best_of_backbones([*of_a, *of_b]) == [of_b[0], of_a[1]]
    assert best_of_backbones(of_a) == []
    assert fusion_of(of_a, tmp_path) == []
    captions = Experiment(strategy=ZeroShot(), task=Captions())
    unfused = [
        Complete(Finalist(captions, 1, 0.5, (), backbone), of_a[0].folders, (), ()) for backbone in ("a", "test_vit")
    ]
    assert best_of_backbones(unfused) == []


@pytest.fixture(scope="module")
def pair(tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory) -> list[Complete]:
    """Random updates of a transformer and of a ResNet, on each seed."""
    folder, found = tmp_path_factory.mktemp("runs"), []
    for tower in TOWERS:
        states = tuple(folder / f"{tower}-{seed}" / "checkpoint" for seed in SEEDS)
        runs = [
            lora_run(FIRST, tiny_backbones[tower], state, seed=seed) for seed, state in zip(SEEDS, states, strict=True)
        ]
        for state in states:
            save_scores(state / "scores.npz", scores(0.5, 1))
        one = Finalist(runs[0].model_copy(update={"seed": 0}), 3, 0.5, ("rank 1",), tower)
        found.append(Complete(one, states, tuple(facts() for _ in SEEDS), states))
    return found


def test_equal_weights_of_few_people_are_the_order_of_scaled_vectors_side_by_side(
    pair: list[Complete], tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    folder = tmp_path / group_name(pair)
    fuse(pair, SEEDS, "cpu").save(folder, Identities())
    (row,) = fusion_of(pair, tmp_path)
    assert row.name == "fusion, by score of lora@vit trial 3 + lora@resnet trial 3"
    assert (row.recipe.kind, row.recipe.backbone, row.recipe.arms) == (
        Kind.FUSION,
        "vit + resnet",
        ("lora@vit", "lora@resnet"),
    )
    about = json.loads((folder / "fusion.json").read_text())["seeds"]
    assert [one["crossed"] for one in about] == [False, False]
    contexts = [open_context(TINY_DATA, tiny_backbones[tower], CPU) for tower in TOWERS]
    evaluator = contexts[0].evaluator("val")
    assert isinstance(evaluator, IdentityEvaluator)
    for seed, (one, found) in enumerate(zip(about, row.scores, strict=True)):
        assert one["weights"] == [0.5, 0.5]
        models = [load_run(member.folders[seed], device=CPU, weights=FINAL) for member in pair]
        parts = [
            evaluator.embedded(model, context.pixel_inputs) / spread**0.5
            for model, context, spread in zip(models, contexts, one["deviations"], strict=True)
        ]
        joined = torch.nn.functional.normalize(torch.cat(parts, dim=1), dim=1)
        assert found.mean("map") == pytest.approx(evaluator.scores_of(joined).mean("map"), abs=1e-9)
    first = row.recipe.fusion
    assert first is not None
    assert first.deviations == tuple(about[0]["deviations"])


def test_nobody_is_scored_by_weights_that_were_fitted_to_them(
    pair: list[Complete], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fitting, "FEWEST_PEOPLE", 2)
    monkeypatch.setattr(fusion, "STEPS", 2)
    asked: list[set[int]] = []
    plain = GalleryAnswers.fit

    def noted(answers: GalleryAnswers, among: fitting.Ints) -> object:
        asked.append(set(among.tolist()))
        return plain(answers, among)

    monkeypatch.setattr(GalleryAnswers, "fit", noted)
    first = [Complete(one.finalist, one.folders[:1], one.facts[:1], one.states[:1]) for one in pair]
    fuse(first, SEEDS[:1], "cpu").save(tmp_path / group_name(first), Identities())
    (row,) = fusion_of(first, tmp_path)
    one, other, final = asked
    assert one
    assert other
    assert not one & other
    assert final == one | other
    assert [one.mean("map") for one in row.scores] == [load_scores(tmp_path / group_name(first) / "0.npz").mean("map")]
    assert np.isclose(sum(row.recipe.fusion.weights if row.recipe.fusion else ()), 1)
