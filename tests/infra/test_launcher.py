"""infra/aws/cluster.yaml is what `ray up` understands, and costs nothing by itself but its head."""

import json
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest

from tests.infra.manifests import manifest

SCHEMA = json.loads((Path(find_spec("ray").origin).parent / "autoscaler" / "ray-schema.json").read_text())


@pytest.fixture
def cluster():
    return manifest("aws/cluster.yaml")


def test_ray_knows_every_field(cluster):
    jsonschema.validate(cluster, SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="node_types"):
        jsonschema.validate({**cluster, "node_types": {}}, SCHEMA)


def test_workers_are_spot_machines_that_come_with_the_work(cluster):
    head, gpu = (cluster["available_node_types"][name] for name in ("head", "gpu"))
    assert cluster["head_node_type"] == "head"
    assert "GPU" not in head["resources"]
    assert "InstanceMarketOptions" not in head["node_config"], "without its head the cluster ends"
    assert gpu["resources"]["GPU"] == 1
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, cluster["max_workers"])
    assert cluster["idle_timeout_minutes"] <= 10
    assert cluster["provider"]["cache_stopped_nodes"] is False


def test_credentials_are_roles_and_the_token_a_file(cluster):
    types = cluster["available_node_types"]
    roles = {name: one["node_config"]["IamInstanceProfile"]["Arn"] for name, one in types.items()}
    assert len(set(roles.values())) == 2, "only the head may start machines"
    assert all(one["node_config"]["MetadataOptions"] == {"HttpTokens": "required"} for one in types.values())
    assert cluster["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    assert "IpPermissions" not in cluster["provider"]["security_group"], "none but SSH from outside, which is Ray's own"


def test_ray_starts_with_its_ports_inside(cluster):
    _, head = cluster["head_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    _, worker = cluster["worker_start_ray_commands"]
    assert "--address=$RAY_HEAD_IP:6379" in worker
