"""docs/adding-a-strategy.md, done to a copy of the packages; then the contract tests run on what comes out."""

from pathlib import Path

import pytest

from tests.guides import Guide, passed

COPIED = (
    "handclip_core", "search_spaces", "tune_jobs", "tests/handclip_core/strategies", "tests/conftest.py",
    "tests/process_pair.py", "tests/limits.py", "pyproject.toml",
)  # fmt: skip


@pytest.mark.spawn
def test_the_guide_leads_to_a_strategy_that_keeps_the_contract(tmp_path: Path) -> None:
    Guide("adding-a-strategy.md").follow(
        tmp_path,
        copied=COPIED,
        new="handclip_core/strategies/projection_only.py",
        changed={
            "## 2. The entry": "handclip_core/strategies/__init__.py",
            "## 3. The function": "search_spaces/spaces.py",
        },
    )
    assert passed(tmp_path, "tests", "-k", "ProjectionOnly")
