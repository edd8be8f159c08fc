"""The same sweep twice, in peace and disturbed, and what is to be said of both."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.checks import differences, lost, unsound
from chaos.faults import Fault, Scene, Told, cause
from chaos.joined import JoinedCluster
from chaos.nodes import LocalCluster
from chaos.remains import remains
from chaos.watching import Watched
from handclip_core.runs.run_folder import write_text
from tune_jobs.config.settings import SweepSettings, dump_settings
from tune_jobs.reporting.summary import log

CALM, DISTURBED = "undisturbed", "disturbed"
END_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Verdict:
    """What the faults did, and what is wrong after them; nothing, where all is as promised."""

    told: tuple[Told, ...]
    wrong: tuple[str, ...]


def try_faults(
    settings: SweepSettings,
    faults: Sequence[Fault],
    *,
    folder: Path,
    cluster: LocalCluster | JoinedCluster,
    environment: dict[str, str],
) -> Verdict:
    """Run the sweep of ``settings`` in ``folder`` in peace, then with ``faults`` one after the other, and compare.

    Raises RuntimeError and TimeoutError where a sweep does not get to its end.
    """
    log("the sweep in peace")
    with _sweep(settings, folder / CALM, environment) as calm:
        _finish(calm)
    log("the same sweep, disturbed")
    same_scores = settings.resources.concurrent == 1
    return disturb(
        settings, faults, calm=calm, same_scores=same_scores, folder=folder, cluster=cluster, environment=environment
    )


def disturb(
    settings: SweepSettings,
    faults: Sequence[Fault],
    *,
    calm: Watched,
    same_scores: bool,
    folder: Path,
    cluster: LocalCluster | JoinedCluster,
    environment: dict[str, str],
) -> Verdict:
    """Run the sweep of ``settings`` in ``folder`` with ``faults``, and compare with ``calm``, which has ended.

    With ``same_scores`` trial by trial. Raises RuntimeError and TimeoutError where the sweep does not get to its end.
    """
    told, wrong = [], []
    with _sweep(settings, folder / DISTURBED, environment) as disturbed:
        for fault in faults:
            told.append(cause(fault, Scene(disturbed, cluster)))
            log(in_words(told[-1]))
        before = disturbed.events()
        _finish(disturbed)
    wrong += [line for each in told for line in each.lost] + lost(before, disturbed.events())
    wrong += [f"{sweep.folder.name}: {line}" for sweep in (calm, disturbed) for line in unsound(sweep.folder)]
    wrong += [f"left in the cluster: {line}" for line in remains(environment)]
    wrong += differences(calm.all_trials(), disturbed.all_trials(), same_scores=same_scores)
    return Verdict(tuple(told), tuple(wrong))


def in_words(told: Told) -> str:
    """One fault in one line."""
    trials = ", ".join(map(str, told.hit))
    gone = f"{len(told.lost)} results lost" if told.lost else "nothing lost"
    again = f", {told.units_again} units trained again" if told.units_again else ""
    return f"{told.fault}: {told.what}; trial {trials} went on after {told.recovery_s:.1f} s, {gone}{again}"


def _finish(sweep: Watched) -> None:
    code = sweep.wait(limit_s=END_LIMIT_S)
    if code != 0:
        raise RuntimeError(f"the sweep ended with {code}; its log is {sweep.log}")


@contextmanager
def _sweep(settings: SweepSettings, folder: Path, environment: dict[str, str]) -> Iterator[Watched]:
    """A sweep whose driver, whichever it is by then, does not outlive the block."""
    file = folder.with_name("settings.yaml")
    write_text(file, dump_settings(settings))
    sweep = Watched.begin(file, folder, environment)
    try:
        yield sweep
    finally:
        sweep.kill_driver()
