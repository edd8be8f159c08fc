"""A sweep on two nodes of one machine, each with processes, an address and caches of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tune_jobs.chaos.checks import unsound
from tune_jobs.chaos.nodes import LocalCluster, local_cluster
from tune_jobs.chaos.remains import remains
from tune_jobs.chaos.watching import Watched, replayed, running
from tune_jobs.events import Started
from tune_jobs.settings import EarlyStopping, SweepSettings, dump_settings

pytestmark = [pytest.mark.ray, pytest.mark.slow]
LIMIT_S = 300.0


@pytest.fixture(scope="module")
def two_nodes(cache_folder: Path) -> Iterator[LocalCluster]:
    del cache_folder
    with local_cluster(nodes=2, own_caches=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def swept(
    two_nodes: LocalCluster, tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> Watched:
    """A sweep that has ended, of two trials at a time: one a node, since each has one processor."""
    storage = tmp_path_factory.mktemp("runs")
    settings = SweepSettings(
        data=TINY_DATA,
        backbone=tiny_backbones["vit"],
        strategies=("linear_probe", "full"),
        trials=6,
        budget=3,
        early_stopping=EarlyStopping(grace=1),
        storage=storage,
    )
    (storage / "settings.yaml").write_text(dump_settings(settings))
    sweep = Watched.begin(storage / "settings.yaml", storage / "two", two_nodes.environment)
    try:
        assert sweep.wait(limit_s=LIMIT_S) == 0, sweep.log.read_text()
    finally:
        sweep.kill_driver()
    return sweep


def test_trials_run_on_both_nodes_and_the_sweep_is_whole(swept: Watched) -> None:
    events = swept.events()
    at_a_time = [len(running(replayed(events[:length]))) for length in range(1, len(events) + 1)]
    assert max(at_a_time) == 2
    assert unsound(swept.folder) == []
    assert (swept.folder / "best" / "metrics.json").exists()


def test_each_node_has_built_its_pixel_cache_once_before_its_first_trial(
    swept: Watched, two_nodes: LocalCluster
) -> None:
    first = next(event.at for event in swept.events() if isinstance(event, Started))
    for node in two_nodes.nodes:
        files = list(two_nodes.cache_of(node).glob("pixels-*/index.json"))
        assert len(files) == 1
        # A cache that is built again appears under another time.
        assert files[0].stat().st_mtime < first
        assert files[0].parent.stat().st_ctime < first


def test_nothing_is_left_in_the_cluster_when_a_sweep_has_ended(swept: Watched, two_nodes: LocalCluster) -> None:
    assert swept.over()
    assert remains(two_nodes.environment) == []
    assert [process for node in two_nodes.nodes for process in node.training()] == []
