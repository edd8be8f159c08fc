"""How far a run is between two of its units: loss, rate, images a second, and the time that is left."""

import shutil
import sys
import time
from collections.abc import Callable

from handclip_core.engine.loop import Step

TERMINAL_EVERY_S, LOG_EVERY_S = 0.5, 30.0
CLEAR = "\r\x1b[2K"


class StepProgress:
    """Sees the steps of a run of ``num_images`` images: a line that changes on a terminal, else one every 30 s."""

    def __init__(self, num_images: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._num_images, self._clock = num_images, clock
        self._live = sys.stderr.isatty()
        self._every_s = TERMINAL_EVERY_S if self._live else LOG_EVERY_S
        self._first: tuple[float, int] | None = None
        self._shown_at, self._shown_images = clock(), 0

    def __call__(self, step: Step) -> None:
        """Take note of a step, and show it if it is time."""
        now = self._clock()
        if self._first is None:  # of a run that is resumed the images before count for no speed
            self._first, self._shown_images = (now, step.images), step.images
        if now - self._shown_at < self._every_s or step.images <= self._first[1]:
            return
        text = self._line(step, now)
        self._shown_at, self._shown_images = now, step.images
        if self._live:
            print(CLEAR + text[: shutil.get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for a line of the run itself, which counts as one that was shown."""
        self._shown_at = self._clock()
        if self._live:
            print(CLEAR, end="", file=sys.stderr, flush=True)

    def _line(self, step: Step, now: float) -> str:
        assert self._first is not None
        began, images = self._first
        speed = (step.images - self._shown_images) / max(now - max(self._shown_at, began), 1e-9)
        left_s = (self._num_images - step.images) * (now - began) / (step.images - images)
        minutes, seconds = divmod(round(max(left_s, 0)), 60)
        rate = max(step.learning_rates.values(), default=0.0)
        return (
            f"  {step.phase}: step {step.number}/{step.num_steps}  loss {step.loss.item():.4f}  lr {rate:.2g}  "
            f"{speed:,.0f} images/s  {minutes}:{seconds:02} left"
        )
