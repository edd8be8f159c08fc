from handclip_core.config import Config
from tune_jobs.config.changes import MayChange, changeable
from tune_jobs.config.settings import SweepSettings


class _Inner(Config):
    free: MayChange[int] = 1
    """May change."""
    fixed: int = 2
    """May not."""


class _Outer(Config):
    inner: _Inner = _Inner()
    """A part of it may."""
    whole: MayChange[_Inner] = _Inner()
    """All of it may."""
    fixed: int = 3
    """May not."""


def test_a_setting_says_itself_whether_it_may_change_and_then_all_below_it_may() -> None:
    assert changeable(_Outer) == ("inner.free", "whole")


def test_of_a_sweep_these_may_change() -> None:
    """A change here is a change of what trials mean, or of where they are."""
    assert set(changeable(SweepSettings)) == {
        "name", "storage", "search.storage", "limits", "resources", "retries", "stall_minutes", "keep_checkpoints",
        "checkpoint_every_s", "mixtures", "tracking",
    }  # fmt: skip


def test_a_setting_that_may_change_is_checked_as_any_other() -> None:
    assert SweepSettings.model_fields["retries"].description is not None
    assert all(field.description for field in SweepSettings.model_fields.values())
