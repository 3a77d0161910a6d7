"""The manifests: Kubernetes and KubeRay understand them, and a namespace with restricted security admits their pods."""

from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from batchgen.job.file import load_job
from tests.infra.manifests import RAYJOBS, manifest, pinned, pods

SCHEMA = yaml.safe_load((Path(__file__).parent / "rayjob.schema.yaml").read_text())
PODS = [(name, role) for name in RAYJOBS for role in pods(manifest(f"kuberay/{name}"))]
GIB = {"Gi": 2**30, "Mi": 2**20}


@pytest.fixture(params=RAYJOBS)
def rayjob(request):
    return manifest(f"kuberay/{request.param}")


@pytest.fixture(params=PODS, ids="-".join)
def pod(request):
    name, role = request.param
    return pods(manifest(f"kuberay/{name}"))[role]


def understood_by_kubernetes(document):
    """Raises where a field is unknown or has another type, in the newest Kubernetes that the package knows."""
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def size(quantity):
    return int(quantity[:-2]) * GIB[quantity[-2:]]


def test_kuberay_knows_every_field(rayjob):
    jsonschema.validate(rayjob, SCHEMA, jsonschema.Draft202012Validator)
    rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minimumReplicas"] = 0
    with pytest.raises(jsonschema.ValidationError, match="minimumReplicas"):
        jsonschema.validate(rayjob, SCHEMA, jsonschema.Draft202012Validator)


def test_kubernetes_knows_every_field_of_the_pods(pod):
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", **pod["metadata"]}, "spec": pod["spec"]}
    understood_by_kubernetes(document)
    document["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
        understood_by_kubernetes(document)


@pytest.mark.parametrize("name", ["job-file.yaml", "network-policy.yaml", "service-account.yaml"])
def test_kubernetes_knows_every_field_beside_them(name):
    understood_by_kubernetes(manifest(f"kuberay/{name}"))


def test_the_operator_would_not_refuse_it(rayjob):
    """What KubeRay 1.7 checks besides (ray-operator/controllers/ray/utils/validation.go)."""
    spec, cluster = rayjob["spec"], rayjob["spec"]["rayClusterSpec"]
    assert spec["backoffLimit"] > 0
    assert "clusterSelector" not in spec, "with it there are no tries but one"
    assert spec["shutdownAfterJobFinishes"], "else no ttlSecondsAfterFinished, and none for Kueue"
    assert "activeDeadlineSeconds" not in spec
    assert cluster["authOptions"] == {"mode": "token"}, "a Secret of KubeRay's making; RBAC tokens are not for RayJobs"
    assert cluster["rayVersion"] == pinned("ray")
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert "priority" not in group or cluster["autoscalerOptions"]["version"] == "v2"


def test_spot_comes_first_and_nothing_runs_where_there_is_no_work():
    cluster = manifest("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]
    spot, on_demand = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert spot["priority"] > on_demand["priority"]
    kinds = [group["template"]["spec"]["nodeSelector"]["karpenter.sh/capacity-type"] for group in (spot, on_demand)]
    assert kinds == ["spot", "on-demand"]
    assert [group["minReplicas"] for group in (spot, on_demand)] == [0, 0]
    assert "nvidia.com/gpu" not in cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_kueue_owns_when_it_starts():
    rayjob = manifest("kuberay/rayjob-kueue.yaml")
    assert rayjob["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert "suspend" not in rayjob["spec"]
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert "enableInTreeAutoscaling" not in cluster
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


def test_both_differ_in_nothing_but_who_scales():
    one, other = (pods(manifest(f"kuberay/{name}")) for name in RAYJOBS)
    assert one["submitter"] == other["submitter"]
    for key in ("image", "securityContext", "env", "resources", "volumeMounts"):
        assert one["head"]["spec"]["containers"][0][key] == other["head"]["spec"]["containers"][0][key]
    assert one["spot"]["spec"]["containers"] == other["gpu"]["spec"]["containers"]


def test_restricted_pod_security(pod):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, field by field."""
    spec = pod["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & spec.keys()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000, "the user of infra/Dockerfile"
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {key for volume in spec["volumes"] for key in volume} <= {"name", "configMap", "emptyDir"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,  # more than the standard asks for
            "capabilities": {"drop": ["ALL"]},
        }
        assert "ports" not in container
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}


def test_the_autoscaler_is_as_restricted_and_can_write_where_it_must():
    cluster = manifest("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]
    head, options = cluster["headGroupSpec"]["template"]["spec"], cluster["autoscalerOptions"]
    assert options["securityContext"] == head["containers"][0]["securityContext"]
    assert options["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert "tmp" in {volume["name"] for volume in head["volumes"]}
    assert head["automountServiceAccountToken"] is True


def test_what_is_written_has_a_place(pod):
    """With a root that is read-only: Ray's sockets, logs and objects, weights and compiled kernels."""
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    (container,) = pod["spec"]["containers"]
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    if container["name"] == "ray-job-submitter":
        assert set(mounts) == {"/tmp"}
        return
    assert mounts.keys() >= {"/tmp", "/home/ray", "/dev/shm"}
    assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
    assert size(mounts["/dev/shm"]["emptyDir"]["sizeLimit"]) < size(container["resources"]["limits"]["memory"])


def test_rays_objects_fit_into_dev_shm(rayjob):
    cluster = rayjob["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        (shm,) = [one for one in group["template"]["spec"]["volumes"] if one["name"] == "dshm"]
        assert int(group["rayStartParams"]["object-store-memory"]) < size(shm["emptyDir"]["sizeLimit"])


def test_only_the_autoscaler_has_rights_in_kubernetes(rayjob):
    assert manifest("kuberay/service-account.yaml")["automountServiceAccountToken"] is False
    scales = "enableInTreeAutoscaling" in rayjob["spec"]["rayClusterSpec"]
    for role, pod in pods(rayjob).items():
        assert pod["spec"]["automountServiceAccountToken"] is (scales and role == "head")


def test_a_renderer_that_is_taken_away_can_say_so(rayjob):
    for role, pod in pods(rayjob).items():
        if role not in ("submitter", "head"):
            (container,) = pod["spec"]["containers"]
            command = container["lifecycle"]["preStop"]["exec"]["command"]
            assert command[:3] == ["/opt/venv/bin/ray", "stop", "--grace-period"]
            assert int(command[3]) < pod["spec"]["terminationGracePeriodSeconds"] <= 120


def test_no_secret_stands_in_a_manifest(pod):
    for variable in pod["spec"]["containers"][0].get("env", []):
        assert "value" not in variable
        assert "secretKeyRef" in variable["valueFrom"]


def test_the_network_policy_holds_for_every_pod_and_lets_only_them_in(pod):
    policy = manifest("kuberay/network-policy.yaml")["spec"]
    own = policy["podSelector"]
    assert own["matchLabels"].items() <= pod["metadata"]["labels"].items()
    inside, operator = policy["ingress"]
    assert inside == {"from": [{"podSelector": own}]}
    assert [port["port"] for port in operator["ports"]] == [8265]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (outside,) = [peer for rule in policy["egress"] for peer in rule["to"] if "ipBlock" in peer]
    assert outside["ipBlock"]["except"] == ["169.254.169.254/32"]


def test_the_job_file_is_one_and_is_where_the_command_looks(rayjob, tmp_path):
    config_map = manifest("kuberay/job-file.yaml")
    head = pods(rayjob)["head"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]}
    (job,) = [volume for volume in head["volumes"] if "configMap" in volume]
    assert job["configMap"]["name"] == config_map["metadata"]["name"]
    (name,) = config_map["data"]
    assert rayjob["spec"]["entrypoint"] == f"batchgen render {mounts[job['name']]}/{name}"
    (tmp_path / name).write_text(config_map["data"][name])
    loaded = load_job(str(tmp_path / name))
    assert loaded.output.path.startswith("s3://")
    assert loaded.cluster.num_gpus == 1, "without it a cluster that has no GPU yet is refused"


def test_the_job_asks_for_no_more_gpus_than_there_may_be(rayjob, tmp_path):
    (tmp_path / "job.yaml").write_text(manifest("kuberay/job-file.yaml")["data"]["job.yaml"])
    wanted = load_job(str(tmp_path / "job.yaml")).cluster.renderers.max_size
    for group in rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        assert wanted <= group["maxReplicas"], "each group alone must be enough"
