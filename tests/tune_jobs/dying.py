"""Drivers that die, as often and wherever a test wants them to."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from optuna.storages import RDBStorage

from handclip_core.runs.run_folder import BEST
from tests.tune_jobs.simulated import run
from tests.tune_jobs.simulation import _Trial
from tune_jobs.config.settings import SweepSettings
from tune_jobs.execution import callback as callback
from tune_jobs.state import journal
from tune_jobs.state.journal import Journal, Tip
from tune_jobs.storage.location import BucketLocation, open_location


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
        """``function``, before which the driver may be killed; to the next driver that is after the write before."""

        def fused(*args: Any, **kwargs: Any) -> Any:
            self.burn()
            return function(*args, **kwargs)

        return fused

    def within(self, write: Callable[[Journal, bytes, Tip], None]) -> Callable[[Journal, bytes, Tip], None]:
        """``write``, which a kill leaves half done."""

        def torn(self_: Journal, lines: bytes, tip: Tip) -> None:
            self.burn()
            try:
                self.burn()
            except Killed:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(journal, "write_tip", lambda *_: None)
                    write(self_, lines[: len(lines) // 2], tip)
                raise
            write(self_, lines, tip)

        return torn

    def amid(self, save: Callable[[_Trial], Any]) -> Callable[[_Trial], Any]:
        """``save``, which a kill leaves with one of its files."""

        def torn(trial: _Trial) -> Any:
            self.burn()
            try:
                self.burn()
            except Killed:
                number = trial.storage.current_checkpoint_index + 1
                store = open_location(trial.place / f"checkpoint_{number:06d}")
                store.filesystem.create_dir(store.path)
                store.filesystem.open_output_stream(f"{store.path}/{BEST}").close()
                raise
            return save(trial)

        return torn


WRITES_OF_THE_STUDY = (
    "create_new_study",
    "_create_new_trial",
    "_set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)


def fused(patch: pytest.MonkeyPatch) -> Fuse:
    """A fuse that every write of a sweep burns."""
    found = Fuse()
    for name in WRITES_OF_THE_STUDY:
        patch.setattr(RDBStorage, name, found.around(getattr(RDBStorage, name)))
    for name in ("drop_state", "drop_weights", "write_leaderboard", "write_text"):
        patch.setattr(callback, name, found.around(getattr(callback, name)))
    for name in ("write", "send"):
        patch.setattr(BucketLocation, name, found.around(getattr(BucketLocation, name)))
    patch.setattr(Journal, "_write", found.within(Journal._write))
    patch.setattr(journal, "write_tip", found.around(journal.write_tip))
    patch.setattr(_Trial, "save", found.amid(_Trial.save))
    return found


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
