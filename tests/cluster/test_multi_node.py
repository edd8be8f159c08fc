"""A sweep on several nodes of one machine, each with processes, an address and caches of its own."""

from pathlib import Path

import pytest

from tests.cluster.conftest import Peace
from tune_jobs.chaos.checks import unsound
from tune_jobs.chaos.nodes import LocalCluster, LocalNode
from tune_jobs.chaos.watching import replayed, running
from tune_jobs.events import Started

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_trials_run_on_all_nodes_and_on_one_that_joins_and_the_sweep_is_whole(peace: Peace) -> None:
    events = peace.sweep.events()
    at_a_time = [len(running(replayed(events[:length]))) for length in range(1, len(events) + 1)]
    assert at_a_time.index(2) < at_a_time.index(3)
    assert max(at_a_time) == 3
    assert unsound(peace.sweep.folder) == []
    assert (peace.sweep.folder / "best" / "metrics.json").exists()


def test_each_node_has_built_its_pixel_cache_once_and_those_of_the_start_before_the_first_trial(
    peace: Peace, nodes: LocalCluster
) -> None:
    first = next(event.at for event in peace.sweep.events() if isinstance(event, Started))
    times = {node.name: written(nodes, node) for node in peace.nodes}
    assert max(times["n1"], times["n2"]) < first
    assert times["n3"] > first


def written(nodes: LocalCluster, node: LocalNode) -> float:
    """When a node's only pixel cache was built; one that is built again appears under another time."""
    (file,) = nodes.cache_of(node).glob("pixels-*/index.json")
    return latest(file.parent)


def latest(folder: Path) -> float:
    return max(folder.stat().st_ctime, *(path.stat().st_mtime for path in folder.iterdir()))


def test_nothing_is_left_in_the_cluster_when_a_sweep_has_ended(peace: Peace) -> None:
    assert peace.sweep.over()
    assert peace.left == ()
