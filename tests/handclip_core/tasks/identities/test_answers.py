"""Weights that are fitted to one half of the people, and judged by the other."""

import numpy as np
import pytest
import torch

from handclip_core.evaluation.joined import FusedBy
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.loaded import load_finished
from handclip_core.tasks import answers as fitting
from tests.ensembles import Runs, Slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: dict[str, BackboneSettings]) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), tiny_backbones["vit"])


def test_each_half_of_the_people_is_answered_by_weights_of_the_other(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [runs("whitened"), runs("padded")]
    loaded, slow = [load_finished(folder, device=CPU) for folder in folders], Slow(folders)
    answers = slow.evaluator.answers(loaded, by=FusedBy.FEATURE, objective="map")
    assert answers.crossed() is None
    assert not answers.can_fit(np.array([-1]))
    monkeypatch.setattr(fitting, "FEWEST_PEOPLE", 2)
    found = answers.crossed()
    codes = slow.evaluator.identity_codes
    mixed = np.random.default_rng(0).permutation(answers.people)
    halves = [set(mixed[::2].tolist()), set(mixed[1::2].tolist())]
    plain = [(0.0, 1.0)] * 2
    by_aspect: dict[str, list[float]] = {}
    for half, other in (halves, halves[::-1]):
        grid = [(share, 1 - share) for share in np.linspace(0, 1, 21)]
        asked = [one for one in slow.searches() if codes[slow.evaluator.rows[one[1]]] in other]
        worth = [slow.mean(slow.fused(weights, plain), asked) for weights in grid]
        weights = answers.fit(np.array(sorted(other))).weights
        assert slow.mean(slow.fused(weights, plain), asked) == pytest.approx(max(worth), abs=1e-9)
        mine = [one for one in slow.searches() if codes[slow.evaluator.rows[one[1]]] in half]
        for aspect, inverse in slow.ranks(slow.fused(weights, plain), mine):
            by_aspect.setdefault(aspect, []).append(inverse)
    assert found is not None
    assert found.mean("map") == pytest.approx(np.mean([np.mean(values) for values in by_aspect.values()]), abs=1e-9)
