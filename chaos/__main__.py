"""``python -m chaos [SETTINGS.yaml] --faults FAULT,...``."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from chaos.faults import Fault
    from chaos.joined import JoinedCluster
    from chaos.nodes import LocalCluster

DEFAULT = Path(__file__).resolve().with_name("settings.yaml")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

File = Annotated[Path, typer.Argument(help="Settings of a small sweep.", show_default="chaos/settings.yaml")]
Faults = Annotated[str, typer.Option(help="What is to go wrong, in this order, separated by commas.")]
Out = Annotated[Path | None, typer.Option(help="A new folder for both sweeps.", show_default="a temporary one")]
Nodes = Annotated[int, typer.Option(min=1, help="Nodes of the cluster that is started, beside its head.")]
OnThis = Annotated[
    bool, typer.Option("--on-this-cluster", help="Use the cluster at RAY_ADDRESS, which others may be using too.")
]


@app.command()
def main(
    settings: File = DEFAULT,
    faults: Faults = "kill-worker,kill-node,kill-driver",
    out: Out = None,
    nodes: Nodes = 3,
    on_this_cluster: OnThis = False,
) -> None:
    """Disturb a small sweep and compare its results with those of the same sweep in peace.

    Faults: kill-worker, kill-node, add-node, kill-driver, kill-head, drain-node, freeze-worker, freeze-worker-forever,
    storage-away; as root also fill-disk, cut-network. On your own cluster kill-node ends a machine's Ray, whoever else
    uses it.
    """
    from handclip_core.errors import InputError

    try:
        code = _try(settings, faults, out, nodes, on_this_cluster=on_this_cluster)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except (RuntimeError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    raise typer.Exit(code)


def _try(file: Path, faults: str, out: Path | None, nodes: int, *, on_this_cluster: bool) -> int:
    import tempfile

    from chaos.faults import refuse_without_nodes, refuse_without_root
    from chaos.nodes import LocalCluster
    from chaos.trying import try_faults
    from handclip_core.errors import InputError
    from tune_jobs.config.settings import load_settings
    from tune_jobs.lifecycle.folders import resolved
    from tune_jobs.reporting.summary import log

    chosen = _faults(faults)
    settings = resolved(load_settings(file), in_ray_job=False)
    _refuse_foreign_cluster(on_this_cluster=on_this_cluster)
    for fault in chosen:
        refuse_without_nodes(fault, own_nodes=not on_this_cluster)
        refuse_without_root(fault)
    if out is not None and out.exists():
        raise InputError(f"--out {out}: exists already; name a new folder")
    folder = Path(tempfile.mkdtemp(prefix="chaos-")) if out is None else out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with _cluster(nodes, chosen, on_this_cluster=on_this_cluster) as cluster:
        environment = cluster.environment if isinstance(cluster, LocalCluster) else dict(os.environ)
        verdict = try_faults(settings, chosen, folder=folder, cluster=cluster, environment=environment)
    for line in verdict.wrong:
        log(f"WRONG: {line}")
    same = "the same scores" if settings.resources.concurrent == 1 else "the same trials"
    log(f"{len(verdict.wrong)} things are wrong" if verdict.wrong else f"as in peace: nothing lost, {same}")
    log(f"both sweeps are in {folder}")
    return 1 if verdict.wrong else 0


def _faults(text: str) -> "list[Fault]":
    from chaos.faults import Fault
    from handclip_core.errors import InputError

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in list(Fault)]
    if unknown or not names:
        raise InputError(f"--faults '{','.join(unknown)}': choose from {', '.join(Fault)}")
    return [Fault(name) for name in names]


def _refuse_foreign_cluster(*, on_this_cluster: bool) -> None:
    from handclip_core.errors import InputError

    address = os.environ.get("RAY_ADDRESS")
    if address and not on_this_cluster:
        raise InputError(
            f"RAY_ADDRESS={address}: a cluster that was not started for this; unset it to have one started on this "
            "machine, or say --on-this-cluster"
        )
    if on_this_cluster and not address:
        raise InputError("--on-this-cluster: RAY_ADDRESS is not set, so there is no cluster to use")


@contextmanager
def _cluster(nodes: int, faults: "list[Fault]", *, on_this_cluster: bool) -> "Iterator[LocalCluster | JoinedCluster]":
    from chaos.faults import Fault
    from chaos.joined import joined_cluster
    from chaos.nodes import local_cluster
    from tune_jobs.reporting.summary import log

    if on_this_cluster:
        with joined_cluster() as joined:
            yield joined
        return
    log(f"starting a head and {nodes} nodes on this machine")
    networks, disks = Fault.CUT_NETWORK in faults, Fault.FILL_DISK in faults
    with local_cluster(nodes=nodes, own_networks=networks, own_disks=disks) as cluster:
        yield cluster


if __name__ == "__main__":
    app(prog_name="python -m chaos")
