from itertools import pairwise

import numpy as np
import pytest

from handclip_core.data.difficulty import metadata_difficulty
from handclip_core.engine.phase import Optim, Phase
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, assemble
from handclip_core.strategies.curriculum import (
    Curriculum,
    Difficulty,
    Direction,
    Pace,
    class_ranks,
    overall_ranks,
    shares,
)
from tests.conftest import TINY_DATA


def phases_of(context: ExperimentContext, **settings: object) -> tuple[Phase, ...]:
    strategy = Curriculum.model_validate({"optim": Optim(batch_size=8), **settings})
    return assemble(Experiment(strategy=strategy, data=TINY_DATA, backbone=context.settings), context).phases


@pytest.mark.parametrize("pace", list(Pace))
def test_the_pace_grows_from_start_to_all(pace: Pace) -> None:
    found = shares(pace, start=0.25, steps=5)
    assert found[0] == pytest.approx(0.25)
    assert found[-1] == pytest.approx(1.0)
    assert all(earlier < later for earlier, later in pairwise(found))
    middle = {Pace.LINEAR: 0.625, Pace.ROOT: (0.5 * (1 + 0.25**2)) ** 0.5, Pace.EXPONENTIAL: 0.5}
    assert found[2] == pytest.approx(middle[pace])


def test_ranks_are_counted_within_classes() -> None:
    ranks = class_ranks(np.array([3.0, 1.0, 2.0, 9.0]), np.array([0, 0, 0, 1]))
    assert ranks.tolist() == pytest.approx([2 / 3, 0, 1 / 3, 0])


def test_ranks_over_all_images_leave_no_class_out_and_alternate_among_equals() -> None:
    ranks = overall_ranks(np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]), np.array([0, 0, 0, 1, 2, 2]))
    assert ranks.tolist() == pytest.approx([0, 4 / 6, 5 / 6, 0, 0, 2 / 6])


def test_metadata_tell_easy_images_though_a_class_is_of_one_aspect(tiny_context: ExperimentContext) -> None:
    easy, hard = (
        phases_of(tiny_context, difficulty="metadata", direction=direction, start=0.3)[0].data.rows
        for direction in ("easy_first", "hard_first")
    )
    manifest = tiny_context.prepared.manifest
    everything = metadata_difficulty(manifest.iloc[tiny_context.training_data().rows]).mean()
    means = [metadata_difficulty(manifest.iloc[rows]).mean() for rows in (easy, hard)]
    assert means[0] < everything < means[1]


@pytest.mark.parametrize("difficulty", list(Difficulty))
@pytest.mark.parametrize("direction", list(Direction))
def test_phases_nest_and_every_class_takes_part_from_the_first(
    tiny_context: ExperimentContext, difficulty: Difficulty, direction: Direction
) -> None:
    phases = phases_of(tiny_context, difficulty=difficulty, direction=direction, start=0.4, steps=3)
    rows = [set(phase.data.rows.tolist()) for phase in phases]
    assert rows[0] < rows[1] <= rows[2] == set(tiny_context.training_data().rows.tolist())
    assert set(phases[0].data.pool.labels.tolist()) == set(phases[-1].data.pool.labels.tolist())


def test_the_control_shows_the_hard_ones_first(tiny_context: ExperimentContext) -> None:
    easy, hard = (phases_of(tiny_context, direction=which, start=0.34)[0] for which in ("easy_first", "hard_first"))
    assert set(easy.data.rows.tolist()) != set(hard.data.rows.tolist())
    embeddings = tiny_context.feature_inputs

    def distance(phase: Phase) -> float:
        """Mean cosine distance of the shown images to the mean of all images of their class."""
        whole = phases_of(tiny_context)[-1].data
        vectors = embeddings.of(whole.rows, device=tiny_context.device).projected.numpy()
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        shown = np.isin(whole.rows, phase.data.rows)
        centres = {label: vectors[whole.pool.labels == label].mean(axis=0) for label in set(whole.pool.labels.tolist())}
        near = [vectors[i] @ centres[int(whole.pool.labels[i])] for i in np.flatnonzero(shown)]
        return -float(np.mean(near))

    assert distance(easy) < distance(hard)
