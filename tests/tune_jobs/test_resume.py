"""A sweep whose driver dies again and again ends as one that was left in peace."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage

from tests.tune_jobs.simulated import begun, run, settings, state_of
from tune_jobs import recorder
from tune_jobs.journal import Journal
from tune_jobs.settings import SweepSettings
from tune_jobs.simulation import _Trial


class Killed(BaseException):
    """The driver is gone."""


class Fuse:
    """Burns down with every write to the sweep's folder, and kills the driver when it is out."""

    def __init__(self) -> None:
        self.burnt = 0
        self.length: float = float("inf")

    def burn(self) -> None:
        self.burnt += 1
        if self.burnt >= self.length:
            raise Killed

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, before and after which the driver may be killed."""

        def fused(*args: Any, **kwargs: Any) -> Any:
            self.burn()
            result = function(*args, **kwargs)
            self.burn()
            return result

        return fused

    def within(self, write: Callable[[Journal, bytes], None]) -> Callable[[Journal, bytes], None]:
        """``write``, which a kill leaves half done."""

        def torn(self_: Journal, line: bytes) -> None:
            self.burn()
            try:
                self.burn()
            except Killed:
                write(self_, line[: len(line) // 2]) if len(line) > 1 else None
                raise
            write(self_, line)
            self.burn()

        return torn


WRITES_OF_THE_STUDY = (
    "create_new_study",
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    found = Fuse()
    for name in WRITES_OF_THE_STUDY:
        monkeypatch.setattr(RDBStorage, name, found.around(getattr(RDBStorage, name)))
    for name in ("drop_state", "drop_weights", "write_leaderboard", "write_text"):
        monkeypatch.setattr(recorder, name, found.around(getattr(recorder, name)))
    monkeypatch.setattr(Journal, "_write", found.within(Journal._write))
    monkeypatch.setattr(_Trial, "save", found.around(_Trial.save))
    return found


def small(storage: Path) -> SweepSettings:
    return settings(storage, strategies=("linear_probe", "adapters"), trials=6, budget=4)


def run_to_the_end(swept: SweepSettings, fuse: Fuse, lengths: Iterator[int], **kwargs: Any) -> int:
    """Run the sweep under drivers that die after so many writes each; returns how many did."""
    deaths = 0
    while True:
        fuse.burnt, fuse.length = 0, next(lengths)
        try:
            run(swept, **kwargs)
        except Killed:
            deaths += 1
        else:
            return deaths


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    storage = tmp_path_factory.mktemp("undisturbed")
    run(small(storage))
    return state_of(storage / "simulated")


@pytest.mark.parametrize("seed", range(3))
def test_drivers_killed_between_any_two_writes_end_with_the_same_sweep(
    fuse: Fuse, undisturbed: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    random_numbers = random.Random(seed)
    lengths = iter(lambda: random_numbers.randint(1, 40), None)
    deaths = run_to_the_end(small(tmp_path), fuse, lengths)
    assert deaths >= 5
    assert state_of(tmp_path / "simulated") == undisturbed
    assert begun(tmp_path / "simulated") == list(range(6))
