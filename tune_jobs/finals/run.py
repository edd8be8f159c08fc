"""The finals from begin to end: run, compare, look at the test images if asked to, report."""

import shlex
import shutil
import sys

from handclip_core.signals import Ended, say_at_the_end
from tune_jobs.execution.signals import Interrupted
from tune_jobs.finals.build import Finals, opened
from tune_jobs.finals.final_test import MODEL, check_access_log, final_test, last_access
from tune_jobs.finals.past_sweep import PastSweep
from tune_jobs.finals.ranking import rank
from tune_jobs.finals.report import FinalsReport
from tune_jobs.lifecycle.reading import read_record
from tune_jobs.lifecycle.review import write_report
from tune_jobs.reporting.panels import data_here
from tune_jobs.reporting.summary import log, shown


def hold_finals(past: PastSweep, *, top: int, seeds: int, with_test: bool) -> int:
    """Hold the finals of ``past``, print and write their report, and give the exit code.

    0 with a result, 1 if nothing ran on every seed or the final fit failed, 130 if it was interrupted. Raises
    InputError if data, cluster or access log cannot be used.
    """
    again = f"interrupted: complete runs are kept; go on with\n  {shlex.join([sys.executable, *sys.argv])}"
    say_at_the_end(again)
    try:
        with opened(past, top=top, seeds=seeds) as finals:
            check_access_log(finals)  # before hours of runs, not after them
            return _hold(finals, with_test=with_test)
    except (Interrupted, Ended, KeyboardInterrupt):
        say_at_the_end("")
        print(f"\n{again}", file=sys.stderr)
        return 130


def _hold(finals: Finals, *, with_test: bool) -> int:
    entrants = finals.entrants()
    if not entrants:
        for name, reason in finals.failures.items():
            print(f"{name} failed: {reason}")
        print("no finalist came to an end on every seed, so there is no result")
        return 1
    log("comparing")
    baselines = finals.baselines()
    standings = rank(entrants, baselines.scores)
    test = final_test(finals, standings) if with_test else None
    failed = with_test and test is None
    if not with_test:
        test = last_access(finals)
    failures = finals.failures | {f"baseline {name}": reason for name, reason in baselines.failures.items()}
    data = data_here(finals.past.settings.data)
    report = FinalsReport(finals.past, finals.seeds, standings, finals.cost, failures, test, data)
    report.write(finals.folder)
    write_report(read_record(finals.past.where))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    places = f"{shown(finals.past.where)}: report.html, report.md, report.json; three CSV files in {finals.where.name}"
    print(f"\n{report.text(width=width)}\n\nsaved in {places}")
    if test is not None:
        print(f"the model of the test, to be used and exported: {shown(finals.where / MODEL / test.model)}")
    return 1 if failed else 0
