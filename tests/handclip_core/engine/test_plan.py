import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from handclip_core.data.augment import AugmentSettings
from handclip_core.data.samplers import Pool, Shuffled
from handclip_core.engine.phase import DataSpec, Optim, Phase, Train
from handclip_core.engine.plan import plan, units_reached


def phase(share: float, batch_size: int) -> Phase:
    rows = np.arange(4)
    data = DataSpec(rows=rows, pool=Pool(rows, rows), sampler=Shuffled(batch_size), augment=AugmentSettings())
    return Phase("p", data, (Train("head"),), (), Optim(), share=share)


def test_shares_are_relative() -> None:
    spans = plan((phase(1, 10), phase(3, 10)), budget=2, epoch_images=200)
    assert [(span.start_images, span.num_steps) for span in spans] == [(0, 10), (100, 30)]


@given(
    st.lists(st.tuples(st.floats(0.01, 10), st.integers(1, 50)), min_size=1, max_size=5),
    st.integers(1, 20),
    st.integers(1, 200),
)
def test_the_budget_is_shown_and_at_most_a_batch_a_phase_more(
    shapes: list[tuple[float, int]], budget: int, epoch: int
) -> None:
    phases = tuple(phase(share, batch) for share, batch in shapes)
    spans = plan(phases, budget=budget, epoch_images=epoch)
    shown = 0
    for span, (_, batch) in zip(spans, shapes, strict=True):
        assert span.start_images == shown
        shown += span.num_steps * batch
    assert budget * epoch <= shown < budget * epoch + sum(batch for _, batch in shapes)
    assert units_reached(shown, budget=budget, epoch_images=epoch) == budget
