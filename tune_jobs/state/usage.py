"""What a sweep has used, over all of its drivers: hours, GPU-hours and units."""

from dataclasses import dataclass, field

from tune_jobs.state import events
from tune_jobs.state.events import Event, Opened

HOUR_S = 3600.0


@dataclass
class Usage:
    """What a sweep has used, over all of its drivers. Time during which no driver ran does not count."""

    seconds: float = 0.0
    gpu_seconds: float = 0.0
    """GPUs held, times the seconds for which trials held them."""
    gpus_each: float = 0.0
    """GPUs of a running trial."""
    running: set[int] = field(default_factory=set)
    units: int = 0
    """Units trained, those trained twice included."""
    unit_seconds: float = 0.0
    """What they took."""
    _last: float | None = None

    def apply(self, event: Event) -> None:
        """Count the time since the last event."""
        if isinstance(event, Opened):
            # From here on: the time since the last driver died counts for nobody.
            self.gpus_each, self._last = event.gpus, event.at
            self.running.clear()
        self.seconds, self.gpu_seconds = self.until(event.at)
        self._last = None if isinstance(event, events.Closed) else event.at
        match event:
            case events.Started():
                self.running.add(event.trial)
            case events.Retried() | events.Moved() | events.Cut() | events.SeedEnded() | events.Ended():
                self.running.discard(event.trial)
            case events.Validated() | events.Trained():
                self.units += 1
                self.unit_seconds += event.seconds
            case _:
                pass

    def until(self, now: float) -> tuple[float, float]:
        """Seconds and GPU-seconds used by ``now``, seconds since 1970."""
        # A clock that was set back adds nothing.
        since = 0.0 if self._last is None else max(0.0, now - self._last)
        return self.seconds + since, self.gpu_seconds + since * self.gpus_each * len(self.running)

    @property
    def unit_s(self) -> float:
        """Seconds of a unit on average, 0 before the first."""
        return self.unit_seconds / self.units if self.units else 0.0

    @property
    def hours(self) -> float:
        """Hours of the driver."""
        return self.seconds / HOUR_S

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of the trials."""
        return self.gpu_seconds / HOUR_S
