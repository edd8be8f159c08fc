"""Shell scripts of the clusters: shellcheck for all, and what the entrypoint of jobs does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "cluster").rglob("*.sh"), *(ROOT / "cluster").rglob("*.sbatch")])
PYTHON = """#!/usr/bin/env bash
echo "python $*"
[ "$1" = -c ] && exit 0
[[ "$*" == *--resume* ]] && exit "$RESUMED"
exit "$STARTED"
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    if not shellcheck.exists():
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, "-x", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK) or script.suffix == ".sbatch"


@pytest.mark.parametrize(
    ("resumed", "started", "code", "calls"),
    [
        (0, 9, 0, 1),  # there was a sweep, and now it is finished
        (1, 9, 1, 1),  # it went on, and failed
        (130, 9, 130, 1),  # it went on, and was stopped
        (2, 0, 0, 2),  # there was none
        (2, 2, 2, 2),  # the settings are wrong
    ],
)
def test_a_job_goes_on_with_its_sweep_or_starts_it(
    tmp_path: Path, resumed: int, started: int, code: int, calls: int
) -> None:
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(
        [ROOT / "cluster" / "sweep.sh", "my settings.yaml", "first", "s3://bucket/runs", "--set", "trials=3"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "RESUMED": str(resumed), "STARTED": str(started)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    common = "python tune_jobs/sweep.py my settings.yaml --name first --set storage=s3://bucket/runs --set trials=3"
    said = [line for line in done.stdout.splitlines() if line.startswith("python")]
    assert said == [f"{common} --resume", common][:calls]


@pytest.mark.parametrize(("code", "copied"), [(0, True), (1, False), (130, False)])
def test_a_finished_sweep_is_copied_where_the_job_wants_it(tmp_path: Path, code: int, copied: bool) -> None:
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(
        [ROOT / "cluster" / "sweep.sh", "settings.yaml", "first", "/shared/runs"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "RESUMED": str(code), "HANDCLIP_UPLOAD": "s3://bucket/runs"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout.rstrip().endswith(" /shared/runs/first s3://bucket/runs") == copied


def test_a_folder_is_copied_to_a_server_that_speaks_s3(tmp_path: Path) -> None:
    (tmp_path / "first" / "best").mkdir(parents=True)
    (tmp_path / "first" / "best" / "metrics.json").write_text("{}")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "us-east-1"}
        environment = keys | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "AWS_ENDPOINT_URL": address}
        bucket = fs.S3FileSystem(
            access_key="nobody", secret_key="nothing", endpoint_override=address, allow_bucket_creation=True
        )
        bucket.create_dir("results")
        command = [ROOT / "cluster" / "upload.sh", tmp_path / "first"]
        uploaded = subprocess.run([*command, "s3://results/runs"], env=environment, timeout=120, check=False)
        refused = subprocess.run(
            [*command, "s3://elsewhere/runs"], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        found = bucket.get_file_info("results/runs/first/best/metrics.json")
    finally:
        server.stop()
    assert uploaded.returncode == 0
    assert found.size == 2
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: s3://elsewhere/runs: cannot be copied to: ")


def test_too_few_arguments_are_told_what_is_wanted() -> None:
    done = subprocess.run(
        [ROOT / "cluster" / "sweep.sh", "settings.yaml"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "usage: cluster/sweep.sh SETTINGS.yaml NAME STORAGE [OPTION...]\n"
