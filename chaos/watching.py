"""A sweep seen from outside: its driver as a process, and its journal as it grows."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.processes import kill_session, wait_until
from tune_jobs.state.events import Ended, Event, Started, Trained, Validated
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trial import Status
from tune_jobs.state.trials import Trials, folded

SCRIPT = Path(__file__).resolve().parents[1] / "tune_jobs" / "sweep.py"
NEWS_LIMIT_S = 600.0
"""Seconds without which a sweep's next result has to come."""


@dataclass
class Watched:
    """A sweep whose driver runs as a process of its own, and may be begun again."""

    folder: Path
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def begin(cls, settings: Path, folder: Path, environment: Mapping[str, str]) -> "Watched":
        """Start the sweep of a settings file in ``folder``, which must not exist."""
        options = [str(settings), "--name", folder.name, "--set", f"storage={folder.parent}"]
        log = folder.parent / f"{folder.name}.log"
        return cls(folder, environment, log, _start(options, environment, log))

    def resume(self) -> None:
        """Start another driver, which takes the sweep up."""
        self.process = _start([str(self.folder), "--resume"], self.environment, self.log)

    def kill_driver(self) -> None:
        """Kill the driver and all that it has started."""
        kill_session(self.process.pid)
        self.process.wait()

    def over(self) -> bool:
        """Whether the driver has ended."""
        return self.process.poll() is not None

    def wait(self, *, limit_s: float) -> int:
        """The driver's exit code, once it has ended; raises TimeoutError."""
        wait_until(self.over, what=f"the end of the sweep; its log is {self.log}", limit_s=limit_s)
        return self.process.wait()

    def events(self) -> list[Event]:
        """What has happened so far."""
        return read_journal(self.folder / FILE)

    def all_trials(self) -> Trials:
        """What is known of its trials."""
        return folded(self.events())

    def wait_for_training(self) -> float:
        """Wait until a trial is amid its budget; returns the seconds.

        Raises TimeoutError, and RuntimeError where the sweep ends before.
        """
        return self.wait_until(lambda: is_amid_training(self.events()), what="a trial amid its training")

    def wait_for_news(self, trials: Sequence[int], *, after: int, begun_again: bool) -> float:
        """Wait until each of these trials has had a result, or an end, later than the first ``after`` events.

        With ``begun_again`` only results count that come after a trial was begun again. Returns and raises as above.
        """

        def all_have_news() -> bool:
            return had_news(self.events()[after:], trials, begun_again=begun_again)

        return self.wait_until(all_have_news, what=f"news of the trials {trials}")

    def wait_until(self, condition: Callable[[], bool], *, what: str) -> float:
        """Wait for a condition; returns the seconds.

        Raises TimeoutError, and RuntimeError where the sweep ends before.
        """

        def met_or_over() -> bool:
            return condition() or self.over()

        took_s = wait_until(
            met_or_over, what=f"{what}; the sweep's log is {self.log}", limit_s=NEWS_LIMIT_S, every_s=0.1
        )
        if self.over() and not condition():
            raise RuntimeError(f"the sweep ended before there was {what}; its log is {self.log}")
        return took_s


def running(all_trials: Trials) -> list[int]:
    """The numbers of the trials that a worker has."""
    return [view.number for view in all_trials.unfinished() if view.status is Status.RUNNING]


def had_news(events: Sequence[Event], trials: Sequence[int], *, begun_again: bool) -> bool:
    """Whether each of ``trials`` has an end in ``events``, or a result: with ``begun_again`` one after a beginning.

    A trial may still come to its end while its cluster is dying; then it is enough that another has begun.
    """
    begins = [place for place, event in enumerate(events) if isinstance(event, Started)]
    if begun_again and not begins:
        return False
    later = events[begins[0] :] if begun_again else events
    told = {event.trial for event in later if isinstance(event, Trained | Validated)}
    return set(trials) <= told | {event.trial for event in events if isinstance(event, Ended)}


def is_amid_training(events: Sequence[Event]) -> bool:
    """Whether the last trial that had a result goes on."""
    last = next((event.trial for event in reversed(events) if isinstance(event, Trained | Validated)), None)
    all_trials = folded(events)
    return last is not None and not all_trials.trials[last].done and last in running(all_trials)


def _start(options: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), *options],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
