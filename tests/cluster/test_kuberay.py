"""The manifests for KubeRay: every key exists, nothing runs as root, nothing secret is in a file."""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tune_jobs.config.settings import load_settings

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "cluster" / "kuberay"
KEYS: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("kuberay_1_7_0.yaml").read_text())
PLAIN: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "boolean": (bool,), "quantity": (int, str)}
CRD = os.environ.get("HANDCLIP_KUBERAY_CRD")


def load(name: str) -> dict[str, Any]:
    """The only document of a file, or the first."""
    return next(iter(documents(KUBERAY / name)))


def documents(file: Path) -> list[dict[str, Any]]:
    # By way of JSON, since what YAML calls by an anchor would be one object in several places.
    values: list[dict[str, Any]] = json.loads(json.dumps(list(yaml.safe_load_all(file.read_text()))))
    return values


def patched_for_a_bucket() -> dict[str, Any]:
    """The RayJob after the JSON patch (RFC 6902) of the overlay."""
    job = deepcopy(load("sweep/rayjob.yaml"))
    (patch,) = load("sweep-bucket/kustomization.yaml")["patches"]
    for step in yaml.safe_load(patch["patch"]):
        *parents, last = step["path"].strip("/").split("/")
        place: Any = job
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place[key]
        if step["op"] == "remove":
            del place[int(last) if isinstance(place, list) else last]
        else:
            assert (last in place) == (step["op"] == "replace")
            place[last] = step["value"]
    return job


RESOURCES = {
    "RayCluster": load("cluster/raycluster.yaml"),
    "RayJob": load("sweep/rayjob.yaml"),
    "RayJob with a bucket": patched_for_a_bucket(),
}
CLUSTERS = {
    "RayCluster": RESOURCES["RayCluster"]["spec"],
    "RayJob": RESOURCES["RayJob"]["spec"]["rayClusterSpec"],
    "RayJob with a bucket": RESOURCES["RayJob with a bucket"]["spec"]["rayClusterSpec"],
}


def wrong_keys(value: object, kind: str, path: str = "spec") -> Iterator[str]:
    """What in ``value`` the operator would not know, or would take for something else."""
    outer, _, inner = kind.partition(" of ")
    if outer == "list":
        assert isinstance(value, list)
        for number, item in enumerate(value):
            yield from wrong_keys(item, inner, f"{path}[{number}]")
    elif outer == "map":
        assert isinstance(value, dict)
        for key, item in value.items():
            yield from wrong_keys(item, inner, f"{path}.{key}")
    elif kind in KEYS:
        assert isinstance(value, dict)
        for key, item in value.items():
            yield from wrong_keys(item, KEYS[kind].get(key, "no such key"), f"{path}.{key}")
    elif not isinstance(value, PLAIN.get(kind, ())) or (isinstance(value, bool) and kind != "boolean"):
        yield f"{path}: {kind}"


OTHERS = [
    item
    for name in ("storage", "common/redis", "common/network-policy")
    for item in documents(KUBERAY / f"{name}.yaml")
]
VERSIONS = {
    "RayCluster": "ray.io/v1",
    "RayJob": "ray.io/v1",
    "PersistentVolumeClaim": "v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


@pytest.mark.parametrize("resource", [*RESOURCES.values(), *OTHERS], ids=lambda resource: resource["kind"])
def test_kubernetes_and_the_operator_know_every_key(resource: dict[str, Any]) -> None:
    assert resource["apiVersion"] == VERSIONS[resource["kind"]]
    assert list(wrong_keys(resource["spec"], f"{resource['kind']}Spec")) == []


def test_a_misspelt_key_and_a_wrong_type_are_found() -> None:
    job = deepcopy(load("sweep/rayjob.yaml"))
    job["spec"]["ttlSecondAfterFinished"] = 1
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] = "2"
    assert list(wrong_keys(job["spec"], "RayJobSpec")) == [
        "spec.rayClusterSpec.workerGroupSpecs[0].replicas: integer",
        "spec.ttlSecondAfterFinished: no such key",
    ]


@pytest.mark.skipif(
    CRD is None, reason="HANDCLIP_KUBERAY_CRD names no folder with ray.io_rayjobs.yaml of KubeRay 1.7.0"
)
@pytest.mark.parametrize("name", RESOURCES)
def test_kuberays_own_definition_accepts_it(name: str) -> None:
    assert CRD is not None
    resource = RESOURCES[name]
    (definition,) = documents(Path(CRD) / f"ray.io_{resource['kind'].lower()}s.yaml")
    (version,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    schema = strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    jsonschema.validate(resource["spec"], schema)


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Kubernetes' schema as a JSON schema that allows no key it does not name."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = ("type", "enum", "required", "minimum", "minItems")
    result: dict[str, Any] = {key: schema[key] for key in kept if key in schema}
    if "properties" in schema:
        result["properties"] = {key: strict(item) for key, item in schema["properties"].items()}
        result["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        result["items"] = strict(schema["items"])
    return result


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_cluster_wants_a_token_and_keeps_its_state_in_redis(name: str) -> None:
    spec = CLUSTERS[name]
    assert spec["authOptions"] == {"mode": "token", "secretName": "handclip-token"}
    service = load("common/redis.yaml")
    assert spec["gcsFaultToleranceOptions"]["redisAddress"] == f"{service['metadata']['name']}:6379"
    assert "valueFrom" in spec["gcsFaultToleranceOptions"]["redisPassword"]
    assert spec["enableInTreeAutoscaling"]
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert spec["rayVersion"] == next(package["version"] for package in locked if package["name"] == "ray")
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_dashboard_of_the_standing_cluster_is_local_and_else_the_two_are_alike() -> None:
    standing, job = deepcopy(CLUSTERS["RayCluster"]), deepcopy(CLUSTERS["RayJob"])
    assert standing["headGroupSpec"]["rayStartParams"].pop("dashboard-host") == "127.0.0.1"
    assert job["headGroupSpec"]["rayStartParams"].pop("dashboard-host") == "0.0.0.0"
    for template in templates(job):
        template["volumes"] = [volume for volume in template["volumes"] if volume["name"] != "settings"]
        (container,) = template["containers"]
        container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] != "settings"]
    assert standing == job


def test_a_job_that_is_tried_again_finds_its_sweep_on_the_storage() -> None:
    job = load("sweep/rayjob.yaml")["spec"]
    assert job["backoffLimit"] > 0
    assert job["shutdownAfterJobFinishes"]
    assert job["ttlSecondsAfterFinished"] > 0
    script, settings, name, storage = job["entrypoint"].split()
    assert Path(script).relative_to("/opt/handclip-search") == Path("cluster/sweep.sh")
    for pod in templates(job["rayClusterSpec"]):
        (container,) = pod["containers"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {str(Path(settings).parent), str(Path(storage).parent)} <= mounts
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    (generated,) = load("sweep/kustomization.yaml")["configMapGenerator"]
    assert generated["files"] == [Path(settings).name]
    assert load_settings(KUBERAY / "sweep" / "settings.yaml", name=name).trials > 0


def test_with_a_bucket_all_pods_have_its_keys_and_none_the_volume() -> None:
    job = RESOURCES["RayJob with a bucket"]["spec"]
    plain = RESOURCES["RayJob"]["spec"]["entrypoint"].split()
    assert job["entrypoint"].split() == [*plain[:-1], "s3://BUCKET/runs"]
    found = templates(job["rayClusterSpec"])
    assert len(found) == 3
    for pod in found:
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "handclip-bucket"}}]
        mounts = [mount["name"] for mount in container["volumeMounts"]]
        assert mounts == [volume["name"] for volume in pod["volumes"]] == ["cache", "settings"]


def templates(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """The specifications of the cluster's pods."""
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def pods() -> list[dict[str, Any]]:
    redis = next(item for item in documents(KUBERAY / "common" / "redis.yaml") if item["kind"] == "StatefulSet")
    own = [redis["spec"]["template"]["spec"], RESOURCES["RayJob"]["spec"]["submitterPodTemplate"]["spec"]]
    return own + [pod for cluster in CLUSTERS.values() for pod in templates(cluster)]


def test_no_container_runs_as_root() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    containers = [container for pod in pods() for container in pod["containers"]]
    containers += [cluster["autoscalerOptions"] for cluster in CLUSTERS.values()]
    for container in containers:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_pod_that_has_to_go_lets_its_trials_leave_within_the_time_it_gets() -> None:
    for cluster in CLUSTERS.values():
        for group in cluster["workerGroupSpecs"]:
            pod = group["template"]["spec"]
            script, seconds = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
            assert (ROOT / Path(script).relative_to("/opt/handclip-search")).exists()
            assert int(seconds) < pod["terminationGracePeriodSeconds"]


def test_secrets_are_named_but_never_there_and_the_readme_makes_each() -> None:
    text = "\n".join(file.read_text() for file in KUBERAY.rglob("*.yaml"))
    assert "kind: Secret" not in text
    named = set(re.findall(r"secretName: (\S+)|secret(?:Key)?Ref: \{name: ([\w-]+)", text))
    names = {name for pair in named for name in pair if name}
    assert names == {"handclip-token", "handclip-redis", "handclip-bucket"}
    readme = (ROOT / "cluster" / "README.md").read_text()
    assert all(f"create secret generic {name}" in readme for name in names)


def test_the_network_lets_in_the_pods_that_need_it() -> None:
    ray, redis = documents(KUBERAY / "common" / "network-policy.yaml")
    assert ray["spec"]["podSelector"]["matchLabels"] == {"ray.io/is-ray-node": "yes"}
    own = {"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}
    assert ray["spec"]["ingress"][0] == {"from": [own]}
    assert [rule["ports"] for rule in ray["spec"]["ingress"][1:]] == [[{"protocol": "TCP", "port": 8265}]]
    assert redis["spec"]["ingress"] == [{"from": [own], "ports": [{"protocol": "TCP", "port": 6379}]}]
    _, stateful = documents(KUBERAY / "common" / "redis.yaml")
    assert redis["spec"]["podSelector"]["matchLabels"] == stateful["spec"]["template"]["metadata"]["labels"]
