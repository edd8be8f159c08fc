"""The driver as a Ray job: whether it is one, and the name that it was submitted under."""

import json
import os

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def in_ray_job() -> bool:
    """Whether this process was started by ``ray job submit``."""
    return JOB_CONFIG in os.environ


def submission_id() -> str:
    """The name of the job that this process was submitted as, empty if it was not."""
    metadata = json.loads(os.environ.get(JOB_CONFIG, "{}")).get("metadata") or {}
    return str(metadata.get("job_submission_id", ""))
