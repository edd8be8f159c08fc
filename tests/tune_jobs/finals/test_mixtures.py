"""What competes, made of the files of runs that were made up or trained here."""

from pathlib import Path

import torch

from handclip_core.evaluation.storage import load_scores, save_scores
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.drive import drive
from handclip_core.runs.final_scores import wise_ft_file, write_final_scores
from handclip_core.tasks.identities.task import Identities
from tests.conftest import TINY_DATA
from tests.tune_jobs.finals.conftest import full
from tests.tune_jobs.finals.entries import facts, finalist, scores
from tune_jobs.finals.candidates import Finalist
from tune_jobs.finals.mixtures import Complete, entrants_of, group_name, mix

SEEDS = (1001, 1002)
CPU = torch.device("cpu")


def complete(folder: Path, one: Finalist, noise: float, *, wise: dict[float, float] | None = None) -> Complete:
    """A finalist whose runs score by ``noise``, and by other noise where it is mixed by WiSE-FT."""
    folders = tuple(folder / f"{one.key}-{seed}" / "checkpoint_000000" for seed in SEEDS)
    for seed, where in enumerate(folders):
        save_scores(where / "scores.npz", scores(noise, seed))
        for alpha, other in (wise or {}).items():
            save_scores(where / wise_ft_file(alpha), scores(other, seed))
    return Complete(one, folders, tuple(facts() for _ in SEEDS), folders)


def test_wise_ft_competes_once_a_strategy_at_its_best_share(tmp_path: Path) -> None:
    every = dict.fromkeys((0.1, 0.3, 0.5, 0.7, 0.9), 0.9)
    runs = [
        complete(tmp_path, finalist("full", trial=3), 0.5, wise={**every, 0.3: 0.4}),
        complete(tmp_path, finalist("adapters", trial=5), 0.5, wise={**every, 0.9: 0.3}),
        complete(tmp_path, finalist("zero_shot"), 0.8),
    ]
    found = {one.name: one for one in entrants_of(runs, tmp_path / "soups")}
    assert list(found) == [
        "full, trial 3",
        "adapters, trial 5",
        "zero_shot, default",
        "full, WiSE-FT 0.3 of trial 3",
        "adapters, WiSE-FT 0.9 of trial 5",
    ]
    wise = found["full, WiSE-FT 0.3 of trial 3"]
    assert (wise.recipe.alpha, wise.single) == (0.3, False)
    assert [one.mean("map") for one in wise.scores] == [scores(0.4, seed).mean("map") for seed in (0, 1)]
    assert found["full, trial 3"].single


def test_soups_are_found_again_whatever_the_order_of_the_finalists(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    base = finalist("full").experiment.model_copy(update={"data": TINY_DATA, "backbone": tiny_backbones["vit"]})
    members = []
    for trial, rate in ((7, 1e-3), (8, 3e-4)):
        experiment = base.model_copy(update={"strategy": full(rate), "budget": 1})
        one = Finalist(experiment, trial, 0.5, ("rank",))
        folders = tuple(tmp_path / f"{trial}-{seed}" / "checkpoint_000000" for seed in SEEDS)
        for folder, seed in zip(folders, SEEDS, strict=True):
            driven = drive(one.on(seed), folder.parent / "run", device=CPU)
            *_, last = driven
            driven.save(folder)
            write_final_scores(folder, driven, last)
        members.append(Complete(one, folders, tuple(facts() for _ in SEEDS), folders))
    folder = tmp_path / "soups" / group_name(members)
    mix(members, SEEDS, "cpu").save(folder, Identities())
    for group in (members, members[::-1]):
        assert group_name(group) == folder.name
        soup = next(one for one in entrants_of(group, tmp_path / "soups") if "uniform soup" in one.name)
        assert {member.trial for member in soup.recipe.members} == {7, 8}
        assert soup.name in ("full, uniform soup of trial 7, trial 8", "full, uniform soup of trial 8, trial 7")
        stored = [load_scores(folder / f"0-{seed}.npz").mean("map") for seed in range(2)]
        assert [one.mean("map") for one in soup.scores] == stored
        assert len(soup.facts) == 2


def test_another_set_of_runs_has_another_folder_of_soups(tmp_path: Path) -> None:
    one, other = (complete(tmp_path, finalist("full", trial=trial), 0.5) for trial in (1, 2))
    fewer = Complete(one.finalist, one.folders[:1], one.facts[:1], one.states[:1])
    assert len({group_name([one]), group_name([fewer]), group_name([one, fewer])}) == 3
    assert group_name([one, other]) == group_name([other, one])
