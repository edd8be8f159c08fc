"""Settings files of earlier versions: an old key is refused, and the message names the new one."""

import pytest

from handclip_core.errors import InputError
from tune_jobs.config.settings import SweepSettings


@pytest.mark.parametrize(("old", "new"), [("calibrate", "power_analysis"), ("allocation", "strategy_bandit")])
def test_an_old_key_of_the_search_is_refused_with_the_new_one_named(old: str, new: str) -> None:
    with pytest.raises(InputError, match=f"search: '{old}' is now called '{new}'"):
        SweepSettings.parse({"search": {old: "equal"}}, source="sweep.yaml")
