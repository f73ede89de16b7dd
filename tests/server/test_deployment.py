"""The files for containers: linted, and of one mind with the settings. No image is built here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from client_environments import python_of

from crossrank.server.settings import ENVIRONMENT_PREFIX, ServerSettings

DEPLOY = Path(__file__).parents[2] / "deploy"


def manifests():
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))


def test_the_dockerfile_passes_hadolint():
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def check_compose(file):
    program = Path(sys.executable).parent / "check-jsonschema"
    command = [program, "--builtin-schema", "vendor.compose-spec", file]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_compose_file_fits_the_compose_specification(tmp_path):
    done = check_compose(DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "compose.yaml"
    wrong.write_text("services: {crossrank: {read_onyl: true}}", encoding="utf-8")
    assert "read_onyl" in check_compose(wrong).stdout


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_the_manifests_fit_kubernetes(version):
    for manifest in manifests():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_containers_run_without_root_on_a_read_only_system():
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert "\nUSER 10001:10001\n" in dockerfile
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["crossrank"]
    assert service["read_only"] is True
    pod = manifests()[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    drain = next(float(item["value"]) for item in container["env"] if item["name"] == "CROSSRANK_DRAIN_TIMEOUT")
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > before + drain


def check_kserve(file):
    python = python_of("kserve")
    command = [python, Path(__file__).parent / "clients" / "check_kserve.py", file]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_inference_service_fits_kserve(tmp_path):
    done = check_kserve(DEPLOY / "kserve.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "kserve.yaml"
    service = (DEPLOY / "kserve.yaml").read_text(encoding="utf-8")
    wrong.write_text(service.replace("minReplicas", "minReplica").replace("containerPort: 8000", "containerPort: http"))
    said = check_kserve(wrong).stdout
    assert "InferenceService.spec.predictor.minReplica: unknown" in said
    assert "containerPort='http': int expected" in said


def test_the_inference_service_runs_what_the_deployment_runs():
    service = yaml.safe_load((DEPLOY / "kserve.yaml").read_text(encoding="utf-8"))["spec"]["predictor"]
    pod = manifests()[0]["spec"]["template"]["spec"]
    for name in ("automountServiceAccountToken", "terminationGracePeriodSeconds", "securityContext", "volumes"):
        assert service[name] == pod[name]
    ((own,), (other,)) = service["containers"], pod["containers"]
    for name in ("image", "args", "env", "lifecycle", "resources", "securityContext", "volumeMounts"):
        assert own[name] == other[name]
    (port,) = own["ports"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert own[name]["httpGet"]["port"] == port["containerPort"]
        assert own[name]["httpGet"]["path"] == other[name]["httpGet"]["path"]
    # The pod that KServe makes of it, without the fields that are KServe's own.
    own_fields = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
    pod = {name: value for name, value in service.items() if name not in own_fields}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "crossrank"}, "spec": pod}, "1.37", strict=True
    )


def test_every_variable_in_them_is_a_setting():
    names = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in ServerSettings.model_fields}
    for file in ("Dockerfile", "compose.yaml", "kubernetes.yaml", "kserve.yaml"):
        words = (DEPLOY / file).read_text(encoding="utf-8").replace("=", " ").replace(":", " ").split()
        used = {word for word in words if word.startswith(ENVIRONMENT_PREFIX)}
        assert used
        assert used <= names, file
