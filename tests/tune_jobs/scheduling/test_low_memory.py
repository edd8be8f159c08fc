"""What Ray says when it has killed workers for the memory of their node."""

import os

import pytest

from tune_jobs.scheduling.low_memory import LowMemory, is_low_memory, read_low_memory

NODE = "77d19586de1a1e50"
TOLD = f"""2 worker(s) were killed due to the node running low on memory. \
Memory on the node (IP: 10.0.0.2, ID: {NODE}) was 3.13GB used / 23.54GB limit (0.133089)
OOM kill reason: Memory usage 3322609664B exceeded threshold of 3213033472B (12.7% of 25276063744B limit)
Considered workers: [
Selected to kill: (Actor(8c3930c7): job ID=01, lease ID=01, task name=A.__init__, pid=59, actual memory used=1.22GB, x)
Selected to kill: (Task: job ID=01, lease ID=00, task name=A.__init__, pid=60, actual memory used=1.08GB, worker ID=35)
(Actor(a0398d52): job ID=01, lease ID=00, task name=P.__init__, pid=61, actual memory used=0.06GB, worker ID=1a)
]
Top 10 memory users: PID\tMEM(GB)\tCOMMAND
70\t4.50\t/usr/bin/postgres
71\t1.50\tray::Other.step
59\t1.22\tray::A.step
60\t1.08\tray::A.__init__
61\t0.06\tray::P.go
{os.getpid()}\t0.80\tpython sweep.py
72\t0.40\tray::IDLE
74\t0.25\t/home/ray/anaconda3/bin/python other.py
73\t0.07\t/venv/site-packages/ray/dashboard/dashboard.py
"""
"""As Ray 2.60 puts it, shortened."""


def test_node_limits_and_what_the_worker_held_are_read() -> None:
    found = read_low_memory(TOLD, actor="8c3930c7")
    assert (found.node, found.used_gib, found.total_gib, found.wanted_gib) == (NODE, 3.13, 23.54, 1.22)
    assert found.allowed_gib == pytest.approx(2.99, abs=0.01)
    assert found.num_killed == 2
    assert str(found) == "node low on memory (3.1 of 23.5 GiB used, 3.0 allowed, 1.2 GiB or more wanted)"


def test_a_worker_that_had_not_begun_goes_by_no_name() -> None:
    assert read_low_memory(TOLD, actor="unheard of").wanted_gib == 1.08


def test_only_what_is_neither_this_clusters_nor_rays_own_is_foreign() -> None:
    found = read_low_memory(TOLD)
    assert found.foreign_gib == pytest.approx(6.25)
    assert found.is_busy_elsewhere
    assert not LowMemory(foreign_gib=0.9).is_busy_elsewhere
    assert not LowMemory(allowed_gib=22.0, foreign_gib=5.0).is_busy_elsewhere
    assert LowMemory(allowed_gib=22.0, foreign_gib=5.6).is_busy_elsewhere


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The actor was killed: the node was running LOW ON MEMORY.", "node low on memory"),
        ("low on memory. Memory on the node was 22.50GB used / 23.54GB limit", "(22.5 of 23.5 GiB used)"),
        ("low on memory. Memory on the node (IP: 1, ID: ab) was 22.50GB / 23.54GB (0.95)", "(22.5 of 23.5 GiB used)"),
    ],
)
def test_what_ray_says_in_other_words_is_left_unknown(text: str, words: str) -> None:
    assert is_low_memory(text)
    assert str(read_low_memory(text)).endswith(words)
