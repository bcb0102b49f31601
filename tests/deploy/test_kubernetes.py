"""The manifests fit their schemas, each other, and the program."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from db.records import BATCH, LIVE
from tests.deploy.texts import DEPLOY, compose, judge, manifests
from worker.config.settings import load_settings
from worker.runtime.registered_process import PROCESSES
from worker.runtime.timeouts import ANALYSIS_TIME_LIMIT

FOLDER = DEPLOY / "kubernetes"
DOCUMENTS = [(name, document) for name, document in manifests() if name != "kustomization.yaml"]
DEPLOYMENTS = {document["metadata"]["name"]: document for _, document in DOCUMENTS if document["kind"] == "Deployment"}
OURS = {name: DEPLOYMENTS[name]["spec"]["template"]["spec"] for name in DEPLOYMENTS if name != "valkey"}


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for _, document in DOCUMENTS if document["kind"] == kind}


def container(name: str) -> dict[str, Any]:
    (only,) = DEPLOYMENTS[name]["spec"]["template"]["spec"]["containers"]
    return dict(only)


# KEDA's and kustomize's own kinds are in no schema that a registry carries: they are looked at below
@pytest.mark.parametrize(
    "name", sorted({name for name, document in DOCUMENTS if not document["apiVersion"].startswith("keda.sh/")})
)
def test_manifest_fits_the_schema_of_kubernetes(name: str) -> None:
    said = judge("kubernetes-validate", "--strict", FOLDER / name, install="pip install kubernetes-validate")
    assert "passed" in said


def test_kustomization_lists_every_manifest_but_the_example_of_a_secret() -> None:
    (kustomization,) = [document for name, document in manifests() if name == "kustomization.yaml"]
    assert set(kustomization["resources"]) == {name for name, _ in DOCUMENTS} - {"secret.example.yaml"}
    assert {path.name for path in FOLDER.iterdir()} == {
        *kustomization["resources"],
        "secret.example.yaml",
        "kustomization.yaml",
    }


def test_every_process_is_a_deployment_and_starts_by_its_command() -> None:
    assert set(OURS) == set(PROCESSES)
    for name in OURS:
        assert container(name)["args"] == [name]
        assert container(name)["image"] == compose()["services"]["listen"]["image"]


def test_pods_are_unprivileged() -> None:
    for name, deployment in DEPLOYMENTS.items():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["automountServiceAccountToken"] is False, name
        limits = container(name)["securityContext"]
        assert limits["allowPrivilegeEscalation"] is False, name
        assert limits["readOnlyRootFilesystem"] is True, name
        assert limits["capabilities"] == {"drop": ["ALL"]}, name
        assert "memory" in container(name)["resources"]["limits"], name


def test_no_service_puts_a_variable_of_its_own_into_our_settings() -> None:
    """A service named ``web`` is harmless; one named ``cxr-triage-web`` would set CXR_TRIAGE_WEB_PORT=tcp://..."""
    for name, pod in OURS.items():
        assert pod["enableServiceLinks"] is False, name


def test_settings_of_the_pods_are_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = of_kind("ConfigMap")["cxr-triage"]["data"]["cxr-triage.toml"]
    secret = of_kind("Secret")["cxr-triage"]["stringData"]
    config = tmp_path / "cxr-triage.toml"
    config.write_text(text, encoding="utf-8")
    for name, pod in OURS.items():
        for variable in container(name)["env"]:
            value = variable.get("value") or secret[variable["valueFrom"]["secretKeyRef"]["key"]]
            monkeypatch.setenv(variable["name"], str(config) if variable["name"] == "CXR_TRIAGE_CONFIG" else value)
        settings = load_settings()
        mounts = {mount["name"]: mount["mountPath"] for mount in container(name)["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert str(settings.home) == mounts["home"]
        assert container(name)["env"][0]["value"] == f"{mounts['configuration']}/cxr-triage.toml"
        assert settings.database.url.get_secret_value() == secret["database-url"]
        assert settings.broker.url.get_secret_value() == secret["broker-url"]
    assert tomllib.loads(text)["worker"]["processes"] == 1  # a pod sees all cores of its machine
    ports = {port["name"]: port["containerPort"] for name in OURS for port in container(name).get("ports", ())}
    assert ports == {"dicom": settings.dicom.port, "http": settings.web.port}


def test_services_lead_to_ports_of_pods_that_are_there() -> None:
    for name, service in of_kind("Service").items():
        deployment = DEPLOYMENTS[service["spec"]["selector"]["app.kubernetes.io/name"]]
        offered = {port["name"] for port in container(deployment["metadata"]["name"])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= offered, name


def test_network_policies_choose_pods_that_are_there() -> None:
    policies = of_kind("NetworkPolicy")
    assert policies["nothing-in"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    chosen = set()
    for name, policy in policies.items():
        labels = policy["spec"]["podSelector"].get("matchLabels", {})
        for rule in policy["spec"].get("ingress", ()):
            assert rule["from"], f"{name} lets everyone in"
            chosen.add((labels["app.kubernetes.io/name"], rule["ports"][0]["port"]))
    assert chosen == {("listen", "dicom"), ("web", "http"), ("valkey", "redis")}
    (ours,) = [
        peer["podSelector"]["matchLabels"]
        for peer in policies["broker-in"]["spec"]["ingress"][0]["from"]
        if "podSelector" in peer
    ]
    for name in OURS:
        assert ours.items() <= DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"].items(), name


def test_selectors_choose_their_own_pods() -> None:
    for name, deployment in DEPLOYMENTS.items():
        wanted = deployment["spec"]["selector"]["matchLabels"]
        assert wanted == {"app.kubernetes.io/name": name}
        assert wanted.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_workers_grow_with_our_queues() -> None:
    (scaled,) = of_kind("ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"]["name"] in OURS
    assert scaled["spec"]["minReplicaCount"] >= 1
    broker = of_kind("Service")["valkey"]
    (kustomization,) = [document for name, document in manifests() if name == "kustomization.yaml"]
    address = f"valkey.{kustomization['namespace']}:{broker['spec']['ports'][0]['port']}"
    triggers = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]
    assert {trigger["listName"] for trigger in triggers} == {LIVE, BATCH}
    for trigger in triggers:
        assert trigger["address"] == address
        assert of_kind("Secret")["cxr-triage"]["stringData"]["broker-url"].endswith(f"/{trigger['databaseIndex']}")
        assert int(trigger["listLength"]) > 0


def test_running_images_may_finish_before_a_worker_pod_is_killed() -> None:
    assert OURS["work"]["terminationGracePeriodSeconds"] > ANALYSIS_TIME_LIMIT


def test_every_pod_shares_the_same_files() -> None:
    (claim,) = of_kind("PersistentVolumeClaim").values()
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name, pod in OURS.items():
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        ]
        assert claims == [claim["metadata"]["name"]], name
