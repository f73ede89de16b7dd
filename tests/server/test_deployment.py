"""The files for containers: linted, and of one mind with the settings. No image is built here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from crossrank.server.settings import ENVIRONMENT_PREFIX, ServerSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE_SCHEMA = Path(__file__).parents[1] / "data" / "compose-spec.json"


def manifests():
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))


def test_the_dockerfile_passes_hadolint():
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_fits_the_compose_specification():
    schema = json.loads(COMPOSE_SCHEMA.read_text(encoding="utf-8"))
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    validator = jsonschema.Draft7Validator(schema)  # its name of the draft is not the one jsonschema knows
    validator.validate(compose)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"services": {"crossrank": {"read_onyl": True}}})


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


def test_every_variable_in_them_is_a_setting():
    names = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in ServerSettings.model_fields}
    for file in ("Dockerfile", "compose.yaml", "kubernetes.yaml"):
        words = (DEPLOY / file).read_text(encoding="utf-8").replace("=", " ").replace(":", " ").split()
        used = {word for word in words if word.startswith(ENVIRONMENT_PREFIX)}
        assert used
        assert used <= names, file
