"""``python -m chaos.remains``: what a sweep that has ended still holds of the cluster at ``RAY_ADDRESS``.

A program of its own, since a process can join but one cluster.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping

SETTLE_S = 30.0
"""Seconds within which Ray has to take back what an ended driver held."""


def remains(environment: Mapping[str, str]) -> list[str]:
    """Placement groups, and processors that are not free, in words; ``environment`` leads to the cluster."""
    command = [sys.executable, "-m", "chaos.remains"]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=120, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else [f"cannot be seen: {done.stderr[-500:]}"]


def _held() -> list[str]:
    import ray

    groups = ray.util.placement_group_table().values()
    lines = [f"placement group {group['placement_group_id']}" for group in groups if group["state"] != "REMOVED"]
    free, there = ray.available_resources(), ray.cluster_resources()
    return lines + [
        f"{free.get(key, 0)} of {there[key]} {key} free" for key in ("CPU", "GPU") if _taken(key, free, there)
    ]


def _taken(key: str, free: Mapping[str, float], there: Mapping[str, float]) -> bool:
    return key in there and free.get(key, 0.0) < there[key]


def main() -> None:
    """Print what is held, a line each, once that does not change for the better any more."""
    import ray

    ray.init(address=os.environ["RAY_ADDRESS"], logging_level=logging.ERROR, log_to_driver=False)
    end = time.monotonic() + SETTLE_S
    while (held := _held()) and time.monotonic() < end:
        time.sleep(0.5)
    for line in held:
        print(line)


if __name__ == "__main__":
    main()
