"""What ``ray up`` does on AWS short of logging in, against moto's server: ``python launch_on_aws.py FILE.yaml``."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from moto.server import ThreadedMotoServer


def main(file: Path) -> None:
    """Print one JSON line: what was launched for each kind of machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://{host}:{port}",
        AWS_ACCESS_KEY_ID="nobody",
        AWS_SECRET_ACCESS_KEY="nothing",
        AWS_DEFAULT_REGION="us-west-2",
    )
    try:
        print(json.dumps(launch(file)), flush=True)
    finally:
        server.stop()


def launch(file: Path) -> dict[str, Any]:
    """Let Ray's own code set up and start one machine of each kind; also who gets into their security group."""
    import boto3  # type: ignore[import-untyped]
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    boto3.client("iam").create_instance_profile(InstanceProfileName="handclip-head")
    group = boto3.resource("ec2").create_security_group(
        GroupName="handclip", Description="as cluster/README.md makes it"
    )
    group.authorize_ingress(IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="192.0.2.1/32")
    config = prepare_config(yaml.safe_load(file.read_text()))
    config = bootstrap_aws(AWSNodeProvider.fillout_available_node_types_resources(config))
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    launched = {}
    for name, kind in config["available_node_types"].items():
        (machine,) = provider.create_node(dict(kind["node_config"]), {"ray-node-name": name}, 1).values()
        machine.load()
        launched[name] = {
            "spot": machine.instance_lifecycle == "spot",
            "resources": kind["resources"],
            "group": machine.security_groups[0]["GroupId"] == group.id,
            "profile": (machine.iam_instance_profile or {}).get("Arn", "").rpartition("/")[2],
        }
    group.reload()
    return {"machines": launched, "open_to": [rule["IpRanges"][0]["CidrIp"] for rule in group.ip_permissions]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
