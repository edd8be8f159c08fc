from typing import Any

import numpy as np
import pytest
import torch

from handclip_core.evaluation.metrics import RETENTION
from handclip_core.evaluation.protocol import QueryScores
from handclip_core.evaluation.retention import retention
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, run
from tests.conftest import TINY_DATA


def queries(*ap: float) -> QueryScores:
    rows = np.arange(len(ap))
    values: dict[str, Any] = dict.fromkeys(QueryScores.__dataclass_fields__, rows)
    return QueryScores(**values | {"ap": np.array(ap)})


def test_gains_elsewhere_do_not_make_up_for_what_is_lost() -> None:
    assert retention(queries(1.0, 0.2), queries(0.5, 0.5)) == pytest.approx(0.7)
    assert retention(queries(0.5, 0.5), queries(0.5, 0.5)) == 1.0
    assert retention(queries(1.0, 1.0), queries(0.5, 0.5)) == 1.0


def test_queries_without_a_match_count_on_neither_side() -> None:
    assert retention(queries(0.25, np.nan), queries(0.5, np.nan)) == 0.5


def test_clip_as_it_is_retains_all_and_a_model_with_random_weights_does_not(tiny_context: ExperimentContext) -> None:
    def after_a_unit(strategy: dict[str, Any]) -> dict[str, float]:
        values = {"strategy": strategy, "data": TINY_DATA, "backbone": tiny_context.settings, "budget": 1}
        return next(run(Experiment.model_validate(values), device=torch.device("cpu"))).metrics

    assert after_a_unit({"name": "zero_shot"})[RETENTION] == pytest.approx(1.0)
    destroyed = after_a_unit({"name": "full", "optim": {"lr": 0.1, "batch_size": 8}})
    assert 0 < destroyed[RETENTION] < 0.95
