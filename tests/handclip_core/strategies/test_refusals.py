"""Settings that would train nothing, or not what they say: one line that names the key and the mend."""

from typing import Any

import pytest

from handclip_core.errors import InputError
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, run
from tests.conftest import TINY_DATA

PAIRS: dict[str, Any] = {"losses": {"identity": {"weight": 0}, "triplet": {"weight": 1}}, "sampler": {"kind": "pk"}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"name": "full", **PAIRS, "optim": {"batch_size": 4}},
        "strategy: optim.batch_size: 4 images are fewer than two classes of sampler.images_each = 4",
    ),
    (
        {"name": "full", "sampler": {"kind": "pk", "images_each": 64}, "optim": {"batch_size": 32}},
        "strategy: optim.batch_size: 32 images are fewer than one class of sampler.images_each = 64",
    ),
    (
        {"name": "full", "losses": PAIRS["losses"]},
        "strategy: triplet, circle and contrastive loss need several",
    ),
    (
        {"name": "cross_view", "labels": "person_aspect"},
        "strategy.labels: an identity's aspect by itself has no other",
    ),
    ({"name": "sequential", "order": ["palmar left", "palmar left"]}, "strategy.order: name each aspect once"),
    ({"name": "full", "optim": {"lr": -1}}, "strategy.optim.lr: Input should be greater than 0"),
    ({"name": "linear_probe", "neck": {"kind": "none"}}, "strategy: neck: before a frozen tower"),
]
IDLE: list[tuple[dict[str, Any], str]] = [
    (
        {"name": "full", **PAIRS, "neck": {"source": "trunk"}, "frozen_blocks": 5},
        "strategy.losses: 'triplet' reads nothing that is trained",
    ),
    ({"name": "full", "frozen_blocks": 6}, "strategy.frozen_blocks: 6 leaves nothing to train"),
]


@pytest.mark.parametrize(("strategy", "reason"), REFUSED)
def test_settings_that_contradict_each_other_are_refused(strategy: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=f"^file: {reason}"):
        Experiment.parse({"strategy": strategy}, source="file")


@pytest.mark.parametrize(("strategy", "reason"), IDLE)
def test_losses_that_can_change_nothing_are_refused_at_the_first_step(
    strategy: dict[str, Any], reason: str, tiny_context: ExperimentContext
) -> None:
    values = {"strategy": strategy, "data": TINY_DATA, "backbone": tiny_context.settings}
    with pytest.raises(InputError, match=reason):
        next(run(Experiment.model_validate(values), device=tiny_context.device))


def test_a_batch_in_parts_and_statistics_that_move_do_not_go_together() -> None:
    with pytest.raises(InputError, match=r"^file: micro_batch: .* set backbone.batch_norm: fixed"):
        Experiment.parse(
            {"strategy": {"name": "full"}, "backbone": {"batch_norm": "moving"}, "micro_batch": 4}, source="file"
        )
