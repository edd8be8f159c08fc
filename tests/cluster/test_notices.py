"""A spot machine's notice reaches the cluster, from a stand-in for the cloud's metadata."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[2]
SCRIPTS = ("notices.sh", "drain.sh", "env.sh")
RAY = """#!/usr/bin/env bash
echo "ray $*"
"""
NOTHING_TRAINS = """#!/usr/bin/env bash
exit 1
"""
AWS, GCP = "/latest/meta-data/spot/instance-action", "/computeMetadata/v1/instance/preempted"


@dataclass
class Cloud:
    """What the stand-in answers, and what it was asked."""

    address: str = ""
    notice: str | None = None
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    found = Cloud()

    class Metadata(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            assert self.path == "/latest/api/token"
            self.answer("secret" if "X-aws-ec2-metadata-token-ttl-seconds" in self.headers else None)

        def do_GET(self) -> None:
            found.asked.append(self.path)
            allowed = {AWS: ("X-aws-ec2-metadata-token", "secret"), GCP: ("Metadata-Flavor", "Google")}
            header, value = allowed[self.path]
            self.answer(found.notice if self.headers.get(header) == value else None)

        def answer(self, text: str | None) -> None:
            self.send_response(404 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    found.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The scripts without an environment beside them, a stand-in for ray, and one for a look at what trains here."""
    (tmp_path / "cluster").mkdir()
    for name in SCRIPTS:
        shutil.copy(ROOT / "cluster" / name, tmp_path / "cluster")
    for name, text in (("ray", RAY), ("grep", NOTHING_TRAINS)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def environment(folder: Path, cloud: Cloud) -> dict[str, str]:
    own = {"HANDCLIP_METADATA": cloud.address, "HANDCLIP_NOTICE_EVERY_S": "0.1", "TMPDIR": str(folder)}
    return own | {"PATH": f"{folder}:{os.environ['PATH']}"}


def in_seconds(seconds: float) -> str:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    return json.dumps({"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")})


@pytest.mark.parametrize(
    ("name", "path", "nothing", "seconds"), [("aws", AWS, None, range(4)), ("gcp", GCP, "FALSE", [25])]
)
def test_the_cluster_is_told_once_there_is_a_notice(
    folder: Path, cloud: Cloud, name: str, path: str, nothing: str | None, seconds: list[int]
) -> None:
    cloud.notice = nothing
    command: list[str | Path] = [folder / "cluster" / "notices.sh", name]
    with subprocess.Popen(command, env=environment(folder, cloud), stdout=subprocess.PIPE, text=True) as watching:
        while len(cloud.asked) < 3:
            assert watching.poll() is None
            time.sleep(0.05)
        cloud.notice = "TRUE" if name == "gcp" else in_seconds(3)
        said, _ = watching.communicate(timeout=LIMIT_S)
    assert watching.returncode == 0
    assert set(cloud.asked) == {path}
    told = [line for line in said.splitlines() if line.startswith("ray ")]
    words = "drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message the machine is about to go"
    assert told in [[f"ray {words} --deadline-remaining-seconds {left}"] for left in seconds]


def test_one_machine_listens_once(folder: Path, cloud: Cloud) -> None:
    command: list[str | Path] = [folder / "cluster" / "notices.sh", "aws"]
    with subprocess.Popen(command, env=environment(folder, cloud)) as first:
        while not cloud.asked:
            time.sleep(0.05)
        second = subprocess.run(command, env=environment(folder, cloud), timeout=LIMIT_S, check=False)
        assert second.returncode == 0
        assert first.poll() is None
        first.terminate()


@pytest.mark.parametrize(
    ("script", "argument", "usage"),
    [
        ("notices.sh", "azure", "usage: cluster/notices.sh aws|gcp"),
        ("drain.sh", "soon", "usage: cluster/drain.sh SECONDS"),
    ],
)
def test_a_wrong_call_is_told_what_is_wanted(script: str, argument: str, usage: str) -> None:
    command: list[str | Path] = [ROOT / "cluster" / script, argument]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stderr) == (2, f"{usage}\n")
