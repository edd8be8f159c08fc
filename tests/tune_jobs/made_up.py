"""A sweep made up in memory: trials that are told how they went, as the events that a driver would write."""

from collections.abc import Iterable
from typing import Any, Literal, Protocol

from handclip_core.evaluation.metrics import METRICS
from tests.tune_jobs.simulation import Clock
from tune_jobs.search.proposer import Proposal, Proposer
from tune_jobs.state.events import EVENT, Begun, Created, Ended, Event, Opened, Started, Validated
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import Trials, folded

SECONDS_BETWEEN_EVENTS = 100.0


class Export(Protocol):
    """What is written from the events of a sweep as they come."""

    def happened(self, event: Event, all_trials: Trials) -> None: ...


def metrics(score: float, **others: float) -> dict[str, float]:
    """All validation metrics: ``score``, but for ``others``."""
    return dict.fromkeys((metric.name for metric in METRICS), score) | others


def opened(at: float = 0.0, *, gpus: float = 0.0, settings: dict[str, Any] | None = None) -> Opened:
    """The event of a driver that takes a sweep up."""
    return Opened(at=at, gpus=gpus, settings=settings or {})


def validated(trial: int, unit: int, score: float, *, at: float = 0.0, **changed: Any) -> Validated:
    """The event of a unit that scored ``score``, the best so far, in one second."""
    values: dict[str, Any] = {
        "at": at, "trial": trial, "unit": unit, "images": 100 * unit, "seconds": 1.0, "params_trained": 10,
        "training": {}, "done": False, "metrics": metrics(score), "best": metrics(score), "best_unit": unit,
    }  # fmt: skip
    return Validated(**values | changed)


def reported(unit: int, score: float, *, best: float | None = None, **changed: Any) -> dict[str, Any]:
    """What a worker reports of a unit that was evaluated; ``best`` is the score of its best weights."""
    found = metrics(score if best is None else best)
    return unevaluated(unit, evaluated=True, metrics=metrics(score), best=found | {"unit": 1}, **changed)


def unevaluated(unit: int, **changed: Any) -> dict[str, Any]:
    """What a worker reports of a unit in which nothing could move retrieval."""
    values: dict[str, Any] = {
        "unit": unit, "images": 100 * unit, "evaluated": False, "metrics": {}, "best": {"unit": 0},
        "training": {"loss/identity": 1.0 / unit}, "seconds": 2.0, "params_trained": 10,
    }  # fmt: skip
    return values | changed


class MadeUpSweep:
    """The events of a sweep, and what follows from them; ``exports`` hear of each."""

    def __init__(self, *exports: Export, name: str = "made-up") -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.all_trials = Trials()
        self.exports = [*exports]
        self.happened(Created(at=self.clock(), sweep=name))
        self.happened(opened(self.clock()))

    def happened(self, *events: Event) -> None:
        """Take ``events`` into account, some time after those before."""
        for event in events:
            self.clock.now += SECONDS_BETWEEN_EVENTS
            self.events.append(event)
            self.all_trials.apply(event)
            for export in self.exports:
                export.happened(event, self.all_trials)

    def begin(self, proposal: Proposal | None) -> TrialView:
        """Let a worker take up what was proposed."""
        assert proposal is not None, "there is something left to try"
        number = len(self.all_trials.trials)
        begun = Begun(
            at=self.clock(),
            trial=number,
            params=proposal.params,
            experiment=proposal.experiment,
            origin=proposal.origin,
            notes=proposal.notes,
        )
        self.happened(begun, Started(at=self.clock(), trial=number))
        return self.all_trials.trials[number]

    def score(self, trial: TrialView, *scores: float) -> None:
        """The trial trains a unit for each of ``scores``."""
        for score in scores:
            best, at = max((score, trial.unit + 1), (trial.score, trial.best_unit), key=_by_score)
            event = validated(trial.number, trial.unit + 1, score, at=self.clock(), best=metrics(best), best_unit=at)
            self.happened(event)

    def end(
        self, trial: TrialView, status: Literal["complete", "stopped", "failed"] = "complete", *, reason: str = ""
    ) -> None:
        """The trial is over."""
        self.happened(Ended(at=self.clock(), trial=trial.number, status=status, reason=reason))

    def complete(self, trial: TrialView, *scores: float) -> None:
        """The trial trains its last units and is complete."""
        self.score(trial, *scores)
        self.end(trial)

    def run(self, proposer: Proposer, scores: Iterable[float]) -> list[TrialView]:
        """Trials one after another, each of one unit with the next of ``scores``."""
        found = []
        for score in scores:
            found.append(self.begin(proposer.next(self.all_trials)))
            self.complete(found[-1], score)
        return found

    def read_again(self) -> Trials:
        """The trials as another driver would know them: from the events as text."""
        return folded(EVENT.validate_json(event.model_dump_json()) for event in self.events)


def _by_score(item: tuple[float, int]) -> float:
    """A score that is not a number, as before the first unit, is below any other."""
    return item[0] if item[0] == item[0] else float("-inf")
