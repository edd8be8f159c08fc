"""How a budget is shared among phases: pure arithmetic on images."""

from dataclasses import dataclass

from handclip_core.engine.phase import Phase


@dataclass(frozen=True)
class Span:
    """The stretch of a phase: images shown before it, and its number of steps."""

    start_images: int
    num_steps: int


def plan(phases: tuple[Phase, ...], *, budget: int, epoch_images: int) -> tuple[Span, ...]:
    """The span of every phase of a budget of ``budget`` x ``epoch_images`` images.

    A phase takes whole batches until its part is reached, and one at least, so that the sum is the budget or up to one
    batch a phase more.
    """
    total_share = sum(phase.share for phase in phases)
    spans: list[Span] = []
    images, share = 0, 0.0
    for phase in phases:
        share += phase.share
        end = round(share / total_share * budget * epoch_images)
        batch_size = phase.data.sampler.batch_size
        num_steps = max(1, -(-(end - images) // batch_size))
        spans.append(Span(start_images=images, num_steps=num_steps))
        images += num_steps * batch_size
    return tuple(spans)


def units_reached(images: int, *, budget: int, epoch_images: int) -> int:
    """Whole budget units that ``images`` shown amount to."""
    return min(budget, images // epoch_images)
