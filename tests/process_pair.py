"""Two processes over gloo, forked from one that has imported everything already."""

import multiprocessing
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

from tests.limits import LIMIT_S

Arguments = ParamSpec("Arguments")
PRELOADED = ("handclip_core.runs.experiment", "search_spaces.spaces", "pytest")


@contextmanager
def process_pair(
    work: Callable[Concatenate[int, Arguments], None], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Iterator[None]:
    """Call ``work(rank, ...)`` in the processes of a group of two while the body runs; both must end well.

    Importing torch and open_clip takes most of the time of a new process, so the first pair of a test session starts a
    server that does it once.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    processes = [context.Process(target=_in_group, args=(rank, port, work, args, kwargs)) for rank in range(2)]
    for process in processes:
        process.start()
    yield
    for process in processes:
        process.join(timeout=LIMIT_S)
        assert process.exitcode == 0


def assert_one_process_agrees(alone: dict[str, dict[str, Tensor]], folder: Path) -> None:
    """A pair has left weights by strategy in ``folder``, ``RANK.pt`` each: equal bits, and those of one process."""
    ours, theirs = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, weights in alone.items():
        assert all(torch.equal(ours[name][key], value) for key, value in theirs[name].items()), name
        for key, value in weights.items():
            torch.testing.assert_close(ours[name][key], value, rtol=1e-5, atol=1e-6, msg=f"{name} {key}")


def _in_group(
    rank: int,
    port: int,
    work: Callable[Concatenate[int, Arguments], None],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    work(rank, *args, **kwargs)  # type: ignore[arg-type]
    torch.distributed.destroy_process_group()
