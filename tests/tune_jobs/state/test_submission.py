import json
from pathlib import Path

import pytest

from tune_jobs.reporting.summary import python, resume_command
from tune_jobs.state.submission import JOB_CONFIG, in_ray_job, submission_id


def test_a_job_knows_the_name_that_it_was_submitted_under(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB_CONFIG, raising=False)
    assert (in_ray_job(), submission_id()) == (False, "")
    assert resume_command(Path("/s/a b")) == f"{python()} tune_jobs/sweep.py '/s/a b' --resume"
    monkeypatch.setenv(JOB_CONFIG, json.dumps({"runtime_env": {}, "metadata": {"job_submission_id": "mine"}}))
    assert (in_ray_job(), submission_id()) == (True, "mine")
    submitted = "ray job submit --working-dir . -- python tune_jobs/sweep.py '/s/a b' --resume"
    assert resume_command(Path("/s/a b")) == submitted
