"""Soups of small trained runs, held against averages made by hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from handclip_core.engine.phase import Optim
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.neck import EmbeddingAt, NeckKind, NeckSettings
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, assemble, run, score
from handclip_core.runs.run_folder import load_tensors
from handclip_core.runs.soups import ALPHAS, Ingredient, SoupBuilder, soup_rows, wise_ft_scores
from handclip_core.strategies import AnyStrategy, Full, LinearProbe, ZeroShot
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
BN = NeckSettings(kind=NeckKind.BN)


def full(lr: float, neck: NeckSettings = BN) -> Full:
    return Full(optim=Optim(lr=lr, batch_size=16), neck=neck)


@pytest.fixture(scope="module")
def ingredients(
    tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Ingredient]:
    """Two runs of one shape, one whose weights mean something else, and two of other strategies."""
    strategies: dict[str, AnyStrategy] = {
        "slow": full(1e-4),
        "fast": full(3e-3),
        "before": full(1e-3, BN.model_copy(update={"embedding": EmbeddingAt.BEFORE})),
        "bare": full(1e-3, NeckSettings()),
        "probe": LinearProbe(),
        "zero": ZeroShot(),
    }
    folder = tmp_path_factory.mktemp("weights")
    found = {}
    for name, strategy in strategies.items():
        experiment = Experiment(strategy=strategy, data=TINY_DATA, backbone=tiny_backbones["vit"], budget=1)
        *_, last = run(experiment, device=CPU)
        torch.save(last.state.model.state_dict(), folder / f"{name}.pth")
        found[name] = Ingredient(name, experiment, folder / f"{name}.pth")
    return found


def scored(experiment: Experiment, state: dict[str, Tensor], context: ExperimentContext) -> Evaluation:
    model = assemble(experiment, context).model
    model.load_state_dict(state)
    return score(context, model, context.pixel_inputs, "val")


def test_a_soup_scores_like_weights_averaged_by_hand(
    ingredients: dict[str, Ingredient], tiny_context: ExperimentContext
) -> None:
    pair = [ingredients["slow"], ingredients["fast"]]
    one, other = (load_tensors(item.weights) for item in pair)
    mean = {name: (value + other[name]) / 2 if value.is_floating_point() else value for name, value in one.items()}
    expected = scored(pair[0].experiment, mean, tiny_context)
    uniform = SoupBuilder([[item] for item in pair], CPU).soups()[0]
    assert (uniform.kind, sorted(uniform.members)) == ("uniform soup", [0, 1])
    assert uniform.scores[0].mean("map") == pytest.approx(expected.mean("map"), abs=1e-9)


def test_only_models_in_which_the_same_weights_mean_the_same_are_mixed(ingredients: dict[str, Ingredient]) -> None:
    names = ["slow", "before", "fast", "bare"]
    builder = SoupBuilder([[ingredients[name]] for name in names], CPU)
    groups = sorted(sorted(names[position] for position in group) for group in builder.groups())
    assert groups == [["bare"], ["before"], ["fast", "slow"]]


def test_wise_ft_mixes_with_the_model_before_training(
    ingredients: dict[str, Ingredient], tiny_context: ExperimentContext
) -> None:
    fast = ingredients["fast"]
    untrained = assemble(fast.experiment, tiny_context).model.state_dict()
    tuned = load_tensors(fast.weights)
    mixed = {
        name: 0.7 * untrained[name] + 0.3 * value if value.is_floating_point() else value
        for name, value in tuned.items()
    }
    found = wise_ft_scores(fast, device=CPU)
    assert tuple(found) == ALPHAS
    expected = scored(fast.experiment, mixed, tiny_context)
    assert found[0.3].mean("map") == pytest.approx(expected.mean("map"), abs=1e-9)
    assert wise_ft_scores(ingredients["zero"], device=CPU) == {}


def test_rows_stay_within_a_strategy_and_name_what_they_are_made_of(ingredients: dict[str, Ingredient]) -> None:
    rows = soup_rows([ingredients[name] for name in ("slow", "probe", "fast", "zero")], device=CPU)
    assert [row.metrics["map"] for row in rows] == sorted((row.metrics["map"] for row in rows), reverse=True)
    kinds = {(row.kind, row.strategy) for row in rows} - {("greedy soup", "full")}
    assert kinds == {("uniform soup", "full"), ("WiSE-FT", "full"), ("WiSE-FT", "linear_probe")}
    soup = next(row for row in rows if row.kind == "uniform soup")
    assert soup.status in ("uniform soup of slow, fast", "uniform soup of fast, slow")
    wise = next(row for row in rows if row.strategy == "linear_probe")
    assert wise.status == f"WiSE-FT at {wise.alpha:g} of probe"
    best = max(wise_ft_scores(ingredients["probe"], device=CPU).values(), key=lambda scores: scores.mean("map"))
    assert (wise.metrics["map"], wise.metrics["cmc1"]) == (best.mean("map"), best.mean("cmc1"))


def average_map(builder: SoupBuilder, members: tuple[int, ...]) -> float:
    return sum(scores.mean("map") for scores in builder.scores(members)) / 2


def test_the_soup_of_a_seed_is_made_of_that_seeds_runs(ingredients: dict[str, Ingredient]) -> None:
    slow, fast = ingredients["slow"], ingredients["fast"]
    builder = SoupBuilder([[slow, fast], [fast, slow]], CPU)
    one, other = builder.scores((0,)), builder.scores((1,))
    assert one[0].mean("map") == other[1].mean("map") != one[1].mean("map")
    mixed = builder.soups()[0].scores
    assert mixed[0].mean("map") == pytest.approx(mixed[1].mean("map"))


def test_a_greedy_soup_leaves_out_what_harms_on_average_over_the_seeds(
    ingredients: dict[str, Ingredient], tmp_path: Path
) -> None:
    slow, fast = ingredients["slow"], ingredients["fast"]
    random = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(value.shape, generator=random) if name.startswith("backbone.") else value
        for name, value in load_tensors(slow.weights).items()
    }
    torch.save(state, tmp_path / "wrecked.pth")
    wrecked = Ingredient("wrecked", slow.experiment, tmp_path / "wrecked.pth")
    builder = SoupBuilder([[wrecked, wrecked], [slow, fast], [slow, slow]], CPU)
    by_kind = {soup.kind: soup for soup in builder.soups()}
    assert sorted(by_kind["uniform soup"].members) == [0, 1, 2]
    greedy = by_kind["greedy soup"].members
    assert 0 not in greedy
    assert average_map(builder, greedy) >= max(average_map(builder, (position,)) for position in range(3))


def test_weights_are_mixed_within_a_backbone_alone(ingredients: dict[str, Ingredient]) -> None:
    fast, slow = ingredients["fast"], ingredients["slow"]
    cropped = fast.experiment.backbone.model_copy(update={"framing": "crop"})
    other = Ingredient("other", fast.experiment.model_copy(update={"backbone": cropped}), fast.weights)
    rows = soup_rows([slow, other], device=CPU)
    assert sorted(row.members for row in rows) == [("other",), ("slow",)]
    assert {row.kind for row in rows} == {"WiSE-FT"}
