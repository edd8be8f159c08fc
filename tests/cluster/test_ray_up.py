"""The files for ``ray up``: Ray's own schema, and Ray's own AWS code against a server that answers as AWS does."""

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[2]
FILES = {name: ROOT / "cluster" / "ray-up" / f"{name}.yaml" for name in ("aws", "gcp", "on-premise")}
SHARED = ("file_mounts", "rsync_exclude", "worker_setup_commands")
PROVIDER_KEYS = {
    # What Ray's providers read; the schema lets anything pass here.
    "aws": {"type", "region", "availability_zone", "cache_stopped_nodes", "security_group"},
    "gcp": {"type", "region", "availability_zone", "project_id", "cache_stopped_nodes"},
    "on-premise": {"type", "head_ip", "worker_ips"},
}
GCP_INSTANCE = {
    # Fields of Compute Engine's resource Instance, API v1, as far as the file uses them.
    "machineType": str,
    "guestAccelerators": [{"acceleratorType": str, "acceleratorCount": int}],
    "scheduling": {
        "onHostMaintenance": str,
        "automaticRestart": bool,
        "provisioningModel": str,
        "instanceTerminationAction": str,
    },
    "disks": [
        {
            "boot": bool,
            "autoDelete": bool,
            "type": str,
            "initializeParams": {"diskSizeGb": int, "sourceImage": str},
        }
    ],
    "metadata": {"items": [{"key": str, "value": str}]},
    "shieldedInstanceConfig": {"enableSecureBoot": bool},
}


def load(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(FILES[name].read_text())
    return values


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str) -> None:
    config = prepare_config(load(name))
    validate_config(config)
    # A sweep counts the machines that are there when it begins.
    assert sum(kind["min_workers"] for kind in config["available_node_types"].values()) > 0


@pytest.mark.parametrize("name", FILES)
def test_the_provider_knows_every_key(name: str) -> None:
    assert set(load(name)["provider"]) <= PROVIDER_KEYS[name]


@pytest.mark.parametrize("name", FILES)
def test_ray_starts_with_a_token_and_a_dashboard_that_only_the_machine_itself_reaches(name: str) -> None:
    config = load(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [config[f"{kind}_start_ray_commands"][1] for kind in ("head", "worker")]
    assert all(start.startswith("source ~/handclip-search/cluster/env.sh;") for start in starts)
    assert "--dashboard-host=127.0.0.1" in shlex.split(starts[0])
    shell = "source cluster/env.sh; printf %s $RAY_AUTH_MODE"
    assert subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "token"


@pytest.mark.parametrize("name", FILES)
def test_nodes_get_all_that_the_installation_from_the_lock_file_needs(name: str) -> None:
    config = load(name)
    mounts = {remote.removeprefix("~/handclip-search/"): local for remote, local in config["file_mounts"].items()}
    sent = {local for remote, local in mounts.items() if remote == local and not local.startswith("~")}
    assert all((ROOT / path).exists() for path in sent)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    metadata = [project["project"]["readme"], *project["project"]["license-files"]]
    assert {"pyproject.toml", "uv.lock", "Makefile", *metadata, *packages} <= sent
    assert any(command.endswith("make setup") for command in config["setup_commands"])
    assert "$(UV) sync --frozen" in (ROOT / "Makefile").read_text()


def test_the_three_files_agree_in_what_is_no_matter_of_the_cloud() -> None:
    assert all(load(name)[key] == load("aws")[key] for name in FILES for key in SHARED)
    starts = [load(name)["worker_start_ray_commands"][:2] for name in FILES]
    assert all(start == starts[0] for start in starts)


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_spot_machines_listen_to_their_own_clouds_notices(cloud: str) -> None:
    (command,) = load(cloud)["worker_start_ray_commands"][2:]
    script = shlex.split(command)[1].removeprefix("~/handclip-search/")
    assert (ROOT / script).exists()
    assert shlex.split(command)[2] == cloud


def test_the_head_on_aws_gets_the_boto3_of_the_lock_file() -> None:
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    version = next(package["version"] for package in locked if package["name"] == "boto3")
    assert load("aws")["head_setup_commands"][-1].endswith(f" pip install boto3=={version}")


def test_google_machines_are_described_in_fields_that_exist() -> None:
    kinds = load("gcp")["available_node_types"]
    for kind in kinds.values():
        fits(kind["node_config"], GCP_INSTANCE)
    assert kinds["gpu-spot"]["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert all(kinds[name]["resources"]["GPU"] == 1 for name in ("gpu", "gpu-spot"))


def test_rays_aws_code_launches_every_kind_of_machine(tmp_path: Path) -> None:
    """Run in a process of its own, since boto3 keeps what it has read from the environment."""
    (tmp_path / "home").mkdir()
    script = Path(__file__).with_name("launch_on_aws.py")
    done = subprocess.run(
        [sys.executable, str(script), str(FILES["aws"])],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    launched = yaml.safe_load(done.stdout.splitlines()[-1])
    nodes = launched["machines"]
    assert {name: machine["spot"] for name, machine in nodes.items()} == {
        "head": False, "gpu": False, "gpu-spot": True,
    }  # fmt: skip
    assert nodes["head"]["resources"] == {"CPU": 0}
    assert nodes["gpu-spot"]["resources"]["GPU"] == nodes["gpu"]["resources"]["GPU"] == 1
    assert {name: machine["profile"] for name, machine in nodes.items()} == {
        "head": "handclip-head", "gpu": "", "gpu-spot": "",
    }  # fmt: skip
    assert all(machine["group"] for machine in nodes.values())
    assert launched["open_to"] == ["192.0.2.1/32"]


def fits(value: object, schema: object) -> None:
    """Whether every key of ``value`` is in ``schema`` and every leaf has its type."""
    if isinstance(schema, dict):
        assert isinstance(value, dict)
        for key, item in value.items():
            assert key in schema, f"no such field: {key}"
            fits(item, schema[key])
    elif isinstance(schema, list):
        assert isinstance(value, list)
        for item in value:
            fits(item, schema[0])
    else:
        assert isinstance(schema, type)
        assert isinstance(value, schema)
