"""A program whose workers are forks of it: what they have, what they get, and how all of it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BEGIN = """
import os, shlex, signal, subprocess, sys
from pathlib import Path
from handclip_core import warm_python
from tests.handclip_core import warm_calls

def python(*command):
    return subprocess.run([*shlex.split(warm_python.warm_python()), *command], capture_output=True, text=True).stdout

print("begins", end=" ")
warm_python.start_warm_python(("wave",))
"""
SHOW = "import os, sys; print('wave' in sys.modules, sys.argv[1], os.environ['COLOUR'], os.getcwd(), os.getppid())"


def program(body: str, folder: Path) -> list[str]:
    """The words that a program prints which has a server, whose forks need not import ``wave``."""
    command = [sys.executable, "-c", BEGIN + body]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert not done.stderr
    assert list(folder.glob("handclip-warm-*")) == []
    return done.stdout.split()


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """A folder with a program that shows what it has."""
    (tmp_path / "show.py").write_text(SHOW)
    return tmp_path


def test_a_fork_has_the_imports_and_what_the_asking_process_has(shown: Path) -> None:
    words = program("os.environ['COLOUR'] = 'red'\nprint(python('show.py', 'given'))", shown)
    assert words[:5] == ["begins", "True", "given", "red", str(shown)], "and what was printed before is printed once"
    assert gone(int(words[5])), "the server ends with the program"


def test_a_server_ends_with_a_program_that_is_killed(shown: Path) -> None:
    words = program(
        "os.environ['COLOUR'] = ''\nprint(python('show.py', 'x'), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)",
        shown,
    )
    assert gone(int(words[-1]))


def test_without_its_server_a_process_imports_all_anew(shown: Path) -> None:
    body = "os.environ['COLOUR'] = 'red'\npid = int(python('show.py', 'x').split()[-1])\nos.kill(pid, signal.SIGKILL)"
    words = program(f"{body}\nos.waitpid(pid, 0)\nprint(python('show.py', 'given'))", shown)
    assert words[:4] == ["begins", "False", "given", "red"]


def test_a_function_is_called_in_a_fork_and_writes_where_the_program_does(tmp_path: Path) -> None:
    words = program("warm_python.call_warm(warm_calls.write_pid, 'pid'); print(os.getpid())", tmp_path)
    assert words[:2] == ["begins", "written"]
    assert (tmp_path / "pid").read_text() != words[2]


def test_a_function_answers_from_its_fork(tmp_path: Path) -> None:
    words = program("print(warm_python.call_warm(warm_calls.doubled, 'a'), os.getpid())", tmp_path)
    assert words[:3] == ["begins", "['a',", "'a',"]
    assert words[3].strip("]") != words[4]


def test_without_its_server_a_function_is_called_in_this_process(tmp_path: Path) -> None:
    body = "shutil.rmtree(next(Path().glob('handclip-warm-*')))\nwarm_python.call_warm(warm_calls.write_pid, 'pid')"
    words = program(f"import shutil\n{body}\nprint(os.getpid())", tmp_path)
    assert (tmp_path / "pid").read_text() == words[2]


def test_what_is_begun_is_not_waited_for_and_ends_with_the_program(tmp_path: Path) -> None:
    begun = "warm_python.begin_to_call_warm(warm_calls.write_pid, 'pid')\nimport time\n"
    waits = "while not os.path.exists('pid') or not open('pid').read(): time.sleep(0.01)\nprint(os.getpid())"
    words = program(begun + waits, tmp_path)
    assert (tmp_path / "pid").read_text() != words[-1]
    begun = "warm_python.begin_to_call_warm(warm_calls.write_pid_and_wait, 'waiting')\nimport time\n"
    program(begun + "while not os.path.exists('waiting') or not open('waiting').read(): time.sleep(0.01)", tmp_path)
    assert gone(int((tmp_path / "waiting").read_text()))


def test_without_a_server_nothing_is_begun_in_this_process(tmp_path: Path) -> None:
    body = "import shutil, time\nshutil.rmtree(next(Path().glob('handclip-warm-*')))\n"
    program(f"{body}warm_python.begin_to_call_warm(warm_calls.write_pid, 'pid')\ntime.sleep(0.3)", tmp_path)
    assert not (tmp_path / "pid").exists()


def test_where_no_socket_can_be_made_there_is_no_server(tmp_path: Path) -> None:
    (folder := tmp_path / ("x" * 100)).mkdir()
    words = program("print(warm_python.warm_python())\nwarm_python.call_warm(warm_calls.write_pid, 'pid')", folder)
    assert words == ["begins", "None", "written"]


def test_closed_standard_files_are_no_hindrance(shown: Path) -> None:
    words = program(
        "os.close(0)\nwarm_python._address.clear()\nwarm_python.start_warm_python(())\nos.environ['COLOUR'] = 'red'\n"
        "print(python('show.py', 'given'))",
        shown,
    )
    assert words[2:4] == ["given", "red"]


def test_a_signal_amid_the_fork_is_heard_after_it(tmp_path: Path) -> None:
    code = """
import os, signal
from handclip_core import warm_python

class Told(BaseException): ...

def tell(*_):
    raise Told

signal.signal(signal.SIGTERM, tell)
os.register_at_fork(after_in_parent=lambda: signal.raise_signal(signal.SIGTERM))
try:
    warm_python.start_warm_python(())
except Told:
    print("told")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("told\n", "")


def test_a_signal_that_ends_the_program_leaves_nothing(tmp_path: Path) -> None:
    body = """
from handclip_core.signals import end_on_signals
end_on_signals()
print(os.getpid(), flush=True)
warm_python.call_warm(warm_calls.wait)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", BEGIN + body]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        (pid,) = map(int, running.stdout.readline().split())
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(60) == 128 + signal.SIGTERM
        assert running.stderr.read() == "interrupted\n"
    assert gone(pid)
    assert list(tmp_path.glob("handclip-warm-*")) == []


def test_a_refusal_comes_back_and_a_death_is_no_result(tmp_path: Path) -> None:
    body = """
for function in (warm_calls.refuse, warm_calls.fill, warm_calls.die):
    try:
        warm_python.call_warm(function)
    except Exception as error:
        print(type(error).__name__, error)
"""
    assert " ".join(program(body, tmp_path)) == (
        "begins InputError data: none InputError x: the disk is full "
        "RuntimeError die did not come to its end in a process of its own"
    )
