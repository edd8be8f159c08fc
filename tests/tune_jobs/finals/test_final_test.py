"""What a look puts together and scores, in this process."""

from pathlib import Path

import numpy as np
import pytest
import torch

from handclip_core.evaluation.bootstrap import estimate
from handclip_core.evaluation.embed import embed
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.verification import SEEN
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_context
from handclip_core.runs.ensemble_file import read_ensemble
from handclip_core.runs.experiment import assemble, score
from handclip_core.runs.loaded import load_finished
from handclip_core.runs.run_folder import FINAL, load_run, load_tensors
from handclip_core.runs.validation import BEFORE, validation_thresholds
from handclip_core.serving.card import model_card
from handclip_core.serving.model import open_run
from handclip_core.strategies import Lora, ZeroShot
from handclip_core.types import ASPECT_INDEX, Aspect
from tests.conftest import TINY_DATA
from tests.lora_runs import (
    CPU,
    OTHERS,
    embedded,
    lora_run,
    mean_by_hand,
    merged_by_hand,
    plain_model,
    untrained,
)
from tune_jobs.finals.final_test import FinalModel, score_on_test


@pytest.mark.parametrize(
    ("strategies", "alpha"),
    [(OTHERS, None), (OTHERS[:1], 0.3), (OTHERS[1:2], None)],
    ids=["soup", "WiSE-FT", "one run"],
)
@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_the_model_of_a_look_has_the_mixed_merged_weights_and_is_kept_to_load(
    tiny_backbones: dict[str, BackboneSettings],
    tmp_path: Path,
    tower: str,
    strategies: tuple[Lora, ...],
    alpha: float | None,
) -> None:
    folders = [tmp_path / f"fit-{seed}" for seed in range(len(strategies))]
    given = zip(strategies, folders, strict=True)
    runs = [
        lora_run(strategy, tiny_backbones[tower], folder, seed=seed) for seed, (strategy, folder) in enumerate(given)
    ]
    first, kept_at = runs[0], tmp_path / "model" / "kept"
    model = FinalModel(tuple(zip(runs, folders, strict=True)), (), tiny_backbones[tower], alpha)
    winner, clip = score_on_test(kept_at, model, "cpu")
    states = [
        merged_by_hand(load_tensors(folder / FINAL), strategy)
        for strategy, folder in zip(strategies, folders, strict=True)
    ]
    start = merged_by_hand(untrained(first).state_dict(), strategies[0])
    share = 1.0 if alpha is None else alpha
    shares = [1 - share, *[share / len(states)] * len(states)]
    expected = plain_model(first, mean_by_hand([start, *states], shares))
    kept = load_run(kept_at, device=CPU)
    context = open_context(TINY_DATA, tiny_backbones[tower], CPU)
    found = winner.mean("map")
    assert found == score(context, kept, context.pixel_inputs, "test").mean("map")
    as_it_is = assemble(first.model_copy(update={"strategy": ZeroShot()}), context).model
    assert clip.mean("map") == score(context, as_it_is, context.pixel_inputs, "test").mean("map")
    card, estimated = model_card(open_run(kept_at)), estimate(winner, "map")
    interval = f"{100 * estimated.low:.2f} to {100 * estimated.high:.2f}"
    assert f"| mAP | {100 * estimated.value:.2f} | {interval} | {estimated.num_identities} |" in card
    assert "of test people, by whom nothing was chosen" in card
    assert "| skin_tone |" in card
    seeds = range(1, len(strategies) + 1)
    assert f"{sum(10 * seed for seed in seeds)} images shown in {0.5 * len(seeds):.1f} s of training" in card
    torch.testing.assert_close(embedded(kept), embedded(expected), rtol=0, atol=1e-6)
    by_hand = score(context, expected.float(), context.pixel_inputs, "test").mean("map")
    assert found == pytest.approx(by_hand, abs=1e-3), "more than near-equal images that change places"


def test_a_fusion_is_kept_as_an_ensemble_of_its_members_that_can_be_used(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    towers, fusion = ("vit", "resnet"), ScoreFusion((0.7, 0.3), (0.1, 0.2), (0.5, 0.25))
    folders = [tmp_path / tower for tower in towers]
    runs = [lora_run(OTHERS[0], tiny_backbones[tower], tmp_path / tower, seed=0) for tower in towers]
    kept_at = tmp_path / "model" / "kept"
    given = tuple(zip(runs, folders, strict=True))
    model = FinalModel(given, given, tiny_backbones["resnet"], fusion=fusion)
    winner, clip = score_on_test(kept_at, model, "cpu")
    about = read_ensemble(kept_at)
    assert (about.scores.weights, about.scores.deviations, about.gain) == (fusion.weights, fusion.deviations, None)
    assert [member.origin for member in about.members] == [str(folder) for folder in folders]
    context = open_context(TINY_DATA, tiny_backbones["vit"], CPU)
    evaluator = context.evaluator("test")
    members = [load_run(folder, device=CPU, weights=FINAL) for folder in folders]
    inputs = [open_context(TINY_DATA, tiny_backbones[tower], CPU).pixel_inputs for tower in towers]
    parts = [evaluator.embedded(*one) for one in zip(members, inputs, strict=True)]
    joined = torch.cat([(0.7 / 0.5) ** 0.5 * parts[0], (0.3 / 0.25) ** 0.5 * parts[1]], dim=1)
    joined = torch.nn.functional.normalize(joined, dim=1)
    kept = load_finished(kept_at, device=CPU)
    torch.testing.assert_close(evaluator.embedded(kept.model, kept.inputs), joined, rtol=0, atol=1e-5)
    assert winner.mean("map") == score(context, kept.model, kept.inputs, "test").mean("map")
    resnet = open_context(TINY_DATA, tiny_backbones["resnet"], CPU)
    as_it_is = assemble(runs[1].model_copy(update={"strategy": ZeroShot()}), resnet).model
    assert clip.mean("map") == score(resnet, as_it_is, resnet.pixel_inputs, "test").mean("map")
    served = open_run(kept_at)
    image = context.prepared.paths()[evaluator.rows[0]]
    torch.testing.assert_close(torch.from_numpy(served.embed([image])), joined[:1], rtol=0, atol=1e-5)
    thresholds = validation_thresholds(kept.model, kept.context, kept.inputs)
    assert served.validation.thresholds == thresholds.model_copy(update={"origin": BEFORE})
    assert thresholds.points


def test_a_final_model_has_the_thresholds_of_the_same_model_without_the_validation_people(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    fit, before = (
        lora_run(OTHERS[0], tiny_backbones["vit"], tmp_path / name, seed=seed)
        for seed, name in enumerate(("fit", "before"))
    )
    served = []
    for name, members in (("with", ((before, tmp_path / "before"),)), ("without", ())):
        model = FinalModel(((fit, tmp_path / "fit"),), members, tiny_backbones["vit"])
        score_on_test(tmp_path / name, model, "cpu")
        served.append(open_run(tmp_path / name).validation.thresholds)
    found, nothing = served
    assert (nothing.points, nothing.refused, nothing.origin) == ((), (SEEN,), "")
    assert found.origin == BEFORE
    context = open_context(TINY_DATA, tiny_backbones["vit"], CPU)
    other, rows = load_run(tmp_path / "before", device=CPU, weights=FINAL), context.rows("val")
    hidden = np.full_like(context.aspect_indices, ASPECT_INDEX[Aspect.UNKNOWN])
    vectors = embed(other, context.pixel_inputs, rows, aspects=hidden, device=CPU).numpy()
    who, aspects = (context.prepared.manifest[name].to_numpy()[rows] for name in ("identity", "aspect"))
    one, two = np.triu_indices(len(rows), k=1)
    strangers = (who[one] != who[two]) & (aspects[one] == aspects[two])
    scores = (vectors @ vectors.T)[one, two][strangers]
    assert found.num_impostor == len(scores)
    for point in found.points:
        assert (scores >= point.value + 1e-6).mean() <= point.far < (scores >= point.value - 0.02).mean()
