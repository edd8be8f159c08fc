"""One small Ray cluster for all tests of a module, with a folder of its own."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.tune_jobs.dying import Fuse, fused


@pytest.fixture(scope="module")
def ray_cluster(cache_folder: Path) -> Iterator[None]:
    """Two processors on this machine; workers find the caches of the test session."""
    del cache_folder
    folder = tempfile.mkdtemp(prefix="hc-ray-")  # pytest's own folders make socket names too long
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=80 * 2**20,
        _temp_dir=folder,
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    """Lets the driver of a simulated sweep die at one of its writes."""
    return fused(monkeypatch)
