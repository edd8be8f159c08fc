"""Signals to a command, tried on small programs: exit code, what is said, and what is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.processes import processes_of, wait_until
from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[2]
BEGIN = (
    "import os, signal, subprocess, sys, time\nfrom handclip_core import signals\n"
    "for number in signals.ENDING:\n    signal.signal(number, signal.SIG_DFL)\n"
    "signals.end_on_signals()\n"
)
"""Signals are as in a terminal: what runs these tests in the background may ignore some of them."""
READY = "print('ready', flush=True)\n"
SLEEP = f"try:\n    {READY}    time.sleep(60)\n"
TIDIES = f"{SLEEP}finally:\n    print('tidied')"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(program: str, *numbers: signal.Signals, pause_s: float = 0.0, group: bool = False) -> tuple[int, str, str]:
    """Exit code, output and errors of ``program``, which gets signals once it is ready; nothing of it may be left."""
    command = [sys.executable, "-c", BEGIN + program]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        # No more than the line: what a reader takes ahead is lost to `communicate`.
        assert b"".join(os.read(process.stdout.fileno(), 1) for _ in "ready\n") == b"ready\n"
        for place, number in enumerate(numbers):
            time.sleep(pause_s if place else 0.0)
            if process.poll() is None:
                subprocess.run(["kill", f"-{number.value}", "--", f"{'-' if group else ''}{process.pid}"], check=True)
        out, err = process.communicate(timeout=LIMIT_S)
        wait_until(lambda: not processes_of(process.pid), what="the end of all that it started", limit_s=LIMIT_S)
        return process.returncode, out, err


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("group", [True, False])
def test_a_signal_is_one_line_and_an_exit_code_and_what_was_begun_is_put_right(
    number: signal.Signals, group: bool
) -> None:
    program = f"signals.say_at_the_end('go on with x')\n{TIDIES}"
    assert run(program, number, group=group) == (128 + number, "tidied\n", "go on with x\n")


def test_several_at_once_are_one() -> None:
    program = f"{SLEEP}finally:\n    time.sleep(0.3)\n    print('tidied')"
    assert run(program, signal.SIGTERM, signal.SIGTERM, signal.SIGHUP) == (143, "tidied\n", "interrupted\n")


def test_a_later_one_ends_what_takes_long_to_put_right() -> None:
    program = f"signals.SAME_S = 0.1\n{SLEEP}finally:\n    time.sleep(60)"
    code, _, err = run(program, signal.SIGINT, signal.SIGTERM, pause_s=0.5)
    assert (code, err) == (130, "interrupted\n")


def test_a_library_that_takes_the_signal_for_itself_does_not_hold_the_end_up_nor_do_processes_stay() -> None:
    program = (
        "signals.GRACE_S = 0.5\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"
        "subprocess.Popen(['sh', '-c', 'sleep 60 & sleep 60'])\n"
        f"{READY}end = time.monotonic() + 60\n"
        "while time.monotonic() < end:\n    time.sleep(0.1)"
    )
    assert run(program, signal.SIGTERM) == (143, "", "interrupted\n")


def test_where_nothing_can_be_put_right_the_end_is_at_once() -> None:
    assert run(f"block = signals.ended_at_once()\nblock.__enter__()\n{TIDIES}", signal.SIGTERM) == (
        143,
        "",
        "interrupted\n",
    )


@pytest.mark.parametrize(
    "waiting", ["threading.Thread(target=wait).start()", "atexit.register(wait)"], ids=["a thread", "the end"]
)
def test_after_all_was_done_a_signal_is_one_line_whatever_python_waits_for(waiting: str) -> None:
    program = (
        "import atexit, threading\n"
        f"def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n{waiting}\nsignals.exit_after_all(0)"
    )
    assert run(program, signal.SIGTERM) == (143, "", "interrupted after all was done\n")


def test_modules_are_not_taken_down_where_signals_would_kill_without_a_word() -> None:
    program = (
        "import atexit\nclass Module:\n    def __del__(self):\n        print('taken down', flush=True)\n"
        f"kept = Module()\natexit.register(print, 'registered')\n{READY}signals.exit_after_all(3)"
    )
    assert run(program) == (3, "registered\n", "")


def test_what_breaks_because_of_a_signal_is_no_error() -> None:
    program = f"{SLEEP}except signals.Ended:\n    raise RuntimeError('a pool broke') from None"
    assert run(program, signal.SIGINT) == (130, "", "interrupted\n")


def test_a_signal_that_is_ignored_stays_so() -> None:
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nsignals.end_on_signals()\n"
    program = f"{ignored}{READY}time.sleep(0.5)\nprint('done')"
    assert run(program, signal.SIGHUP) == (0, "done\n", "")


def test_errors_without_a_signal_are_shown_as_ever() -> None:
    code, _, err = run(f"{READY}raise RuntimeError('a fault of ours')")
    assert code == 1
    assert "Traceback" in err
    assert err.endswith("RuntimeError: a fault of ours\n")
