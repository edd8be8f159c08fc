"""The sweep folder that the tests of the finals share."""

from tests.tune_jobs.finals.conftest import sweep_folder

__all__ = ["sweep_folder"]
