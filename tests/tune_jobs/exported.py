"""A made-up sweep and its Optuna study, and what another process reads of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from search_spaces.spaces import SPACES
from tests.tune_jobs.made_up import MadeUpSweep
from tune_jobs.config.search import Search
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting import study as module
from tune_jobs.reporting.study import ARTIFACTS, FILE, StudyExport
from tune_jobs.search.proposer import SearchProposer

ALL = tuple(SPACES)
PAIR = ("full", "adapters")


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / FILE}"


class Exported:
    """A made-up sweep and its study, which is written after every event."""

    def __init__(
        self,
        folder: Path,
        patch: pytest.MonkeyPatch,
        *,
        strategies: tuple[str, ...] = ALL,
        search: Search | None = None,
        sweep: str = "made-up",
    ) -> None:
        self.url, self.folder = sqlite(folder), folder
        self.settings = SweepSettings(strategies=strategies, trials=100, search=search or Search())
        self.sweep = MadeUpSweep(name=sweep)
        self.study = self.another()
        self.study.rebuild(self.sweep.all_trials)
        self.sweep.exports.append(self.study)
        self.proposer = SearchProposer(self.settings)
        patch.setattr(module, "time", SimpleNamespace(monotonic=self.sweep.clock))

    def another(self) -> StudyExport:
        """The export of another driver."""
        search = self.settings.search
        space = search.space(self.settings.strategies)
        artifacts = self.folder / ARTIFACTS
        return StudyExport(self.url, name="sweep", space=space, objectives=search.objectives, artifacts=artifacts)

    def begin(self) -> Any:
        return self.sweep.begin(self.proposer.next(self.sweep.all_trials))

    def stored(self) -> list[FrozenTrial]:
        """What another process reads in the database."""
        return optuna.load_study(study_name="sweep", storage=self.url).get_trials()

    def arms(self) -> dict[str, list[tuple[Any, ...]]]:
        """What is stored of each arm, by the name of its study."""
        storage = RDBStorage(self.url)
        return {
            study.study_name: [
                (t.number, t.state, t.values, t.params, t.distributions, t.intermediate_values, t.user_attrs)
                for t in storage.get_all_trials(study._study_id)
            ]
            for study in storage.get_all_studies()
            if study.study_name != "sweep"
        }

    def truth(self) -> list[tuple[object, ...]]:
        """All that is stored but ids and times."""
        return [
            (t.number, t.state, t.values, t.params, t.distributions, t.intermediate_values, t.user_attrs)
            for t in self.stored()
        ]


def of_every_kind(exported: Exported) -> None:
    """Trials that are complete, stopped, failed, under way, and one that has only begun."""
    complete, stopped, failed, running = (exported.begin() for _ in range(4))
    exported.sweep.complete(complete, 0.2, 0.6, 0.5)
    exported.sweep.score(stopped, 0.9)
    exported.sweep.end(stopped, "stopped")
    exported.sweep.score(failed, 0.8)
    exported.sweep.end(failed, "failed", reason="RuntimeError: out of memory")
    exported.sweep.score(running, 0.1, 0.3)
    exported.begin()
