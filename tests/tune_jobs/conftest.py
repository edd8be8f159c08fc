"""One small Ray cluster for all tests of a process, with a folder of its own, and a server that speaks S3."""

import logging
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from alembic.script import ScriptDirectory
from moto.server import ThreadedMotoServer
from optuna.storages._rdb.storage import _VersionManager
from pyarrow import fs  # type: ignore[import-untyped]

from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Strategy
from tests.conftest import TINY_DATA
from tests.tune_jobs.alone import ROOM, Config, Start
from tests.tune_jobs.dying import Fuse, fused
from tests.warm_workers import warm_workers
from tune_jobs.execution.trainable import HandTrial, trial_config
from tune_jobs.state.trial import TrialView
from tune_jobs.storage.location import BucketLocation


@pytest.fixture(scope="session", autouse=True)
def migrations() -> Iterator[None]:
    """Optuna reads its migrations once, not whenever a study is opened: 40 % of the time of a simulated sweep."""
    create, found = _VersionManager._create_alembic_script, list[ScriptDirectory]()

    def create_once(manager: _VersionManager) -> ScriptDirectory:
        if not found:
            found.append(create(manager))
        return found[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_VersionManager, "_create_alembic_script", create_once)
        yield


@pytest.fixture(scope="session")
def worker_python(cache_folder: Path) -> Iterator[str]:
    """What runs Ray's workers in place of ``python``."""
    del cache_folder
    with warm_workers() as command:
        yield command


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[str]:
    """Where Ray writes; the cluster that is there at the end of the session ends with it."""
    folder = tempfile.mkdtemp(prefix="hc-ray-")  # pytest's own folders make socket names too long
    yield folder
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ray_cluster(ray_folder: str, worker_python: str, object_store: "ObjectStore") -> None:
    """Two processors on this machine; workers find the caches of the test session, and the keys of its buckets.

    The cluster of the module before is used, if there is one.
    """
    del object_store
    if not ray.is_initialized():
        start_ray(ray_folder, worker_python)


def start_ray(folder: str, worker_python: str, **options: Any) -> None:
    """Start a cluster of two processors."""
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=80 * 2**20,
        runtime_env={"py_executable": worker_python},
        _temp_dir=folder,
        **options,
    )


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has room there: hundreds of sweeps wait for a disk most of the time."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 2**30:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="hc-") as folder:
        yield Path(folder)


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    """Lets the driver of a simulated sweep die at one of its writes."""
    return fused(monkeypatch)


@dataclass(frozen=True)
class ObjectStore:
    """A server that speaks S3, of the test session."""

    address: str

    def bucket(self, name: str) -> BucketLocation:
        """A new bucket."""
        fs.S3FileSystem(endpoint_override=self.address, allow_bucket_creation=True).create_dir(name)
        return self.place(name)

    def place(self, name: str) -> BucketLocation:
        """A bucket, whether there is one or not."""
        return BucketLocation(f"s3://{name}?endpoint_override={self.address}")


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """Its keys are in the environment of this process, and of the Ray cluster that it starts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (keys | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
            patch.setenv(name, value)
        yield ObjectStore("http://{}:{}".format(*server.get_host_and_port()))
    server.stop()


@pytest.fixture
def bucket(object_store: ObjectStore) -> BucketLocation:
    """An empty bucket."""
    return object_store.bucket(f"test-{secrets.token_hex(4)}") / "runs"


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Each number is a machine with a cache of its own."""

    def next_machine() -> Iterator[int]:
        number = 0
        while True:
            monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path / f"machine-{number}"))
            yield number
            number += 1

    found = next_machine()
    next(found)
    return found


@pytest.fixture
def worker_config(tiny_backbones: dict[str, BackboneSettings]) -> Config:
    """What a worker is told about a trial of a strategy on little data."""

    def build(strategy: Strategy, *, seed: int = 0, budget: int = 2, every_s: float = 60.0) -> dict[str, Any]:
        experiment = Experiment(
            strategy=strategy, data=TINY_DATA, backbone=tiny_backbones["vit"], seed=seed, budget=budget
        )
        view = TrialView(3, strategy.name, {}, experiment)
        return trial_config(view, Path("/sweep"), trial_resources=ROOM, checkpoint_every_s=every_s)

    return build


@pytest.fixture
def start_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Trials outside any cluster, their folders below ``tmp_path``."""
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path))
    started: list[HandTrial] = []

    def begin(config: dict[str, Any]) -> HandTrial:
        started.append(HandTrial(config))
        return started[-1]

    yield begin
    for trial in started:
        trial.stop()
