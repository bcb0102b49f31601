"""The processes of an installation, as `status` and `doctor` list them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from db.engine import processes
from db.engine.processes import ProcessIdentity
from db.model_registry.scope import ActiveModels
from db.views.metrics import Measures
from tests.peers.processes import wait_until
from worker.cli.app import app
from worker.doctor.analysis import _deliveries
from worker.doctor.examination import CHECKS
from worker.installation import Site
from worker.runtime.clock import now
from worker.runtime.registered_process import ANALYSIS_CHILD, PROCESSES


def test_running_processes_are_listed_and_those_that_run_nowhere_are_named(site: Site, tmp_path: Path) -> None:
    site.database.ping()
    words = ["--home", str(site.settings.home)]
    command = [sys.executable, "-P", "-m", "worker", "schedule", *words]
    skip = [word for check in CHECKS if check != "processes" for word in ("--skip", check)]

    def states() -> dict[str, dict[str, Any]]:
        done = CliRunner().invoke(app, ["status", "--json", *words])
        return {each["name"]: each for each in json.loads(done.stdout)["processes"]}

    assert {each["state"] for each in states().values()} == {"missing"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path) as process:
        try:
            wait_until(lambda: states()["schedule"]["state"] == "running", 60, "registered")
            found = states()["schedule"]
            assert (found["pid"], found["host"]) == (process.pid, socket.gethostname())
            assert datetime.fromisoformat(found["since"]) <= datetime.fromisoformat(found["last_heartbeat"])
            assert states()["listen"]["state"] == "missing"
            done = CliRunner().invoke(app, ["doctor", "--running", "--json", *skip, *words])
            finding = json.loads(done.stdout)["findings"][-1]
            assert (done.exit_code, finding["level"]) == (1, "failed")
            assert f"schedule running on {socket.gethostname()} (pid {process.pid}) since " in str(finding)
            assert "web missing" in str(finding)
            assert "'cxr-triage web'" in str(finding)
            assert "'cxr-triage schedule'" not in str(finding)
            line = next(
                each for each in CliRunner().invoke(app, ["status", *words]).stdout.splitlines() if "pid" in each
            )
            assert line.split()[:3] == ["process", "schedule", "running"]
        finally:
            process.terminate()
    assert states()["schedule"]["state"] == "missing", "it ended in order"


def test_what_is_stopped_fails_where_it_should_be_running(tmp_path: Path) -> None:
    words = ["doctor", "--home", str(tmp_path), "--skip", "engine", "--skip", "codecs", "--json"]
    resting = CliRunner().invoke(app, words)
    assert resting.exit_code == 0, resting.output
    at_work = CliRunner().invoke(app, [*words, "--running"])
    assert at_work.exit_code == 1
    failed = {each["check"] for each in json.loads(at_work.stdout)["findings"] if each["level"] == "failed"}
    assert {"broker", "processes"} <= failed


def test_processes_that_were_lost_fail_and_those_that_were_stopped_or_replaced_do_not(site: Site) -> None:
    """Exit code 0 with every process dead told monitoring that all was well."""
    words = ["doctor", "--json", "--home", str(site.settings.home)]
    words += [word for check in CHECKS if check != "processes" for word in ("--skip", check)]

    def judged() -> tuple[int, str, str]:
        done = CliRunner().invoke(app, words)
        finding = json.loads(done.stdout)["findings"][-1]
        return done.exit_code, finding["level"], finding["remedy"]

    def register(name: str, host: str, age: timedelta) -> int:
        with site.database.write() as session:
            return processes.register(session, ProcessIdentity(name, host, f"boot of {host}", 1, "1"), now() - age)

    rows = [register(name, "a", timedelta(minutes=5)) for name in (*PROCESSES, ANALYSIS_CHILD)]
    code, level, remedy = judged()
    assert (code, level) == (1, "failed")
    assert all(f"'cxr-triage {name}'" in remedy for name in PROCESSES)
    for name in (*PROCESSES, ANALYSIS_CHILD):
        register(name, "b", timedelta(0))
    code, level, remedy = judged()
    assert (code, level) == (0, "warning"), "every service runs, on another machine"
    assert "its machine" in remedy
    with site.database.write() as session:
        for row in rows:
            processes.stop(session, row, now())
    assert judged()[:2] == (0, "ok")


def test_delivery_to_a_destination_that_is_not_configured_is_named() -> None:
    found = Measures(
        models=ActiveModels(),
        instances={},
        outside_domain=0,
        refused={},
        oldest_unread=None,
        rejected={},
        deliveries={("former", "pending"): 3},
        oldest_undelivered={"former": now()},
        commitments={},
        oldest_commitment=None,
        stages={},
    )
    result = _deliveries(found, now(), {"pacs"})
    assert (result.level, "not configured: former" in result.detail) == ("warning", True)
