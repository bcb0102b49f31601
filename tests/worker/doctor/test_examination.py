"""The doctor sees what is amiss, says how to mend it, and its exit code is what monitoring can rely on."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from db.delivery.commitment_requests import record
from db.engine.health import condition, file_system
from db.engine.session import Database, sqlite_url
from db.intake.instances import record_instance
from db.model_registry import activation
from db.records import NewInstance
from dicom_io.network.presentation_contexts import RECEIVED_TRANSFER_SYNTAXES
from dicom_io.network.status_codes import Status
from dicom_io.receive.listener import Listener, ListenerHandlers, ListenerSettings
from tests.db.conftest import MODEL
from tests.db.conftest import new_instance as new_instance
from tests.peers.postgres import Postgres
from worker.analysis import codec_samples
from worker.analysis.codec_samples import SAMPLES
from worker.cli.app import app
from worker.config.settings import load_settings
from worker.doctor import storage
from worker.doctor.check_result import CheckResult, Examined
from worker.doctor.examination import CHECKS, examine
from worker.doctor.storage import sync_milliseconds
from worker.installation import Site
from worker.model_registry.bundles import activate
from worker.monitoring.processes import ProcessState
from worker.runtime.clock import Clock, now

UP = (ProcessState("listen", "running"),)


def look(site: Site, check: str, *, running: tuple[ProcessState, ...] = (), clock: Clock = now) -> CheckResult:
    """What one check of the doctor says; it must say one thing."""
    (finding,) = CHECKS[check](Examined(load_settings(home=site.settings.home), running, clock))
    return finding


@pytest.fixture
def made(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An installation whose home folder, database and store are there, on a disk as one should have."""
    monkeypatch.setattr(storage, "sync_milliseconds", lambda _folder: 2.0)
    monkeypatch.setattr(storage, "file_system", lambda _folder: "ext4")
    site.database.ping()
    site.store.free_bytes()
    site.settings.home.chmod(0o700)
    return site


@pytest.fixture
def listening() -> Iterator[int]:
    listener = Listener(ListenerSettings(host="127.0.0.1", port=0), ListenerHandlers(lambda _received: Status.SUCCESS))
    with listener:
        yield listener.port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that nobody listens on, kept from others meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@pytest.mark.usefixtures("broker")
def test_nothing_failed_where_all_is_well(
    made: Site, bundle_folder: Path, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate(made, str(bundle_folder))
    destination = [{"name": "pacs", "ae_title": "CXRTRIAGE", "host": "127.0.0.1", "port": listening}]
    monkeypatch.setenv("CXR_TRIAGE_DESTINATIONS", json.dumps(destination))
    monkeypatch.setenv("CXR_TRIAGE_DICOM_PORT", str(listening))
    done = CliRunner().invoke(app, ["doctor", "--json", "--home", str(made.settings.home)])
    facts = json.loads(done.stdout)
    assert done.exit_code == 0, done.stdout
    assert facts["ok"] is True
    levels = {each["check"]: each["level"] for each in facts["findings"]}
    assert set(levels) == {"configuration", *CHECKS} - {"work", "destinations"} | {
        "reading",
        "delivery",
        "destination pacs",
    }
    ours_to_answer_for = set(levels) - {"space", "clock", "processes"}
    assert {levels[check] for check in ours_to_answer_for} == {"ok"}, facts["findings"]
    seen = {each["check"]: each["detail"] for each in facts["findings"]}
    assert "2 environment variables" in seen["configuration"]
    assert " ms an image with " in seen["engine"]


def test_fresh_machine_has_warnings_but_no_failure_and_nothing_is_created(
    site: Site, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_TRIAGE_DICOM_PORT", str(silent_port))
    findings = list(examine(site.settings.home, None, now, skip=["engine", "space"]))
    levels = {each.check: each.level for each in findings}
    assert "failed" not in levels.values(), findings
    assert {levels[check] for check in ("home", "broker", "processes", "listener")} == {"warning"}
    assert "database" not in levels  # with the home folder missing, that is said
    assert all(each.remedy for each in findings if each.level != "ok")
    assert not site.settings.home.exists()


def test_wrong_configuration_is_the_only_finding_and_fails(site: Site, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[dicom]\nprot = 1\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["doctor", "--json", "--config", str(wrong), "--home", str(site.settings.home)])
    assert done.exit_code == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["check"] == "configuration"
    assert "did you mean port" in finding["detail"]


def test_unknown_check_is_wrong_usage(site: Site) -> None:
    done = CliRunner().invoke(app, ["doctor", "--skip", "listner", "--home", str(site.settings.home)])
    assert done.exit_code == 2
    assert "listner" in done.output


def test_one_line_a_finding_where_no_terminal_is(made: Site) -> None:
    skip = [word for check in CHECKS if check != "home" for word in ("--skip", check)]
    done = CliRunner().invoke(app, ["doctor", *skip, "--home", str(made.settings.home)])
    lines = done.stdout.splitlines()
    assert [line.split(":")[0].split() for line in lines] == [["ok", "configuration"], ["ok", "home"]]


def test_password_that_everyone_may_read_is_said(made: Site, tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text('[broker]\nurl = "redis://:hunter2@127.0.0.1:1/0"\n', encoding="utf-8")
    findings = {}
    for mode in (0o644, 0o640):
        config.chmod(mode)
        findings[mode] = next(examine(made.settings.home, config, now))
    assert (findings[0o644].level, findings[0o640].level) == ("warning", "ok")
    assert "chmod" in findings[0o644].remedy
    assert "hunter2" not in str(findings)


@pytest.mark.parametrize(
    ("milliseconds", "kind", "level", "words"),
    [(2, "ext4", "ok", "durable in 2.0 ms"), (51, "ext4", "warning", "51.0 ms"), (0.1, "tmpfs", "warning", "lost")],
    ids=["quick", "slow", "in memory"],
)
def test_home_on_a_disk_that_is_slow_or_forgets_is_said(
    made: Site, monkeypatch: pytest.MonkeyPatch, milliseconds: float, kind: str, level: str, words: str
) -> None:
    monkeypatch.setattr(storage, "sync_milliseconds", lambda _folder: milliseconds)
    monkeypatch.setattr(storage, "file_system", lambda _folder: kind)
    found = look(made, "home")
    assert (found.level, words in found.detail) == (level, True), found


def test_home_that_everyone_may_look_into_is_said(made: Site) -> None:
    assert look(made, "home").level == "ok"
    made.settings.home.chmod(0o755)
    assert look(made, "home").remedy == f"chmod o= {made.settings.home}"


def test_home_that_is_a_file_fails(site: Site) -> None:
    site.settings.home.write_text("", encoding="utf-8")
    assert look(site, "home").level == "failed"


def test_database_says_that_commits_are_durable(made: Site) -> None:
    finding = look(made, "database")
    assert finding.level == "ok"
    assert "journal wal, synchronous full" in finding.detail


def test_database_of_another_revision_fails_with_the_command_that_mends_it(made: Site) -> None:
    with made.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    finding = look(made, "database")
    assert (finding.level, "cxr-triage db upgrade" in finding.remedy) == ("failed", True)
    with made.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    finding = look(made, "database")
    assert (finding.level, "newer program" in finding.remedy) == ("failed", True)


def test_database_that_is_none_fails(made: Site) -> None:
    made.database.dispose()
    for path in made.settings.home.glob("cxr-triage.sqlite*"):
        path.unlink()
    (made.settings.home / "cxr-triage.sqlite").write_bytes(b"no database at all" * 100)
    finding = look(made, "database")
    assert finding.level == "failed"
    assert "not a database" in finding.detail


def test_database_that_loses_commits_is_found_out(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "lossy.sqlite"))
    found = condition(database)
    assert (found.revision, found.faults) == (None, ())
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA synchronous=OFF")
        connection.exec_driver_sql("BEGIN")
    assert condition(database).faults == ("synchronous is 0, below 2 (FULL)",)


@pytest.mark.peer
def test_postgresql_says_its_version_clock_and_what_makes_it_lose_commits(postgres: Postgres) -> None:
    database = Database(postgres.database())
    before = now()
    found = condition(database)
    after = now()
    assert found.product.startswith("PostgreSQL ")
    assert found.faults == ("fsync is off",)  # as the tests start it, for speed
    assert found.clock is not None
    assert before - timedelta(seconds=1) <= found.clock <= after + timedelta(seconds=1)
    database.dispose()


def test_file_system_of_a_path_is_the_deepest_mount_that_holds_it() -> None:
    assert file_system(Path("/proc/self")) == "proc"


def test_store_that_cannot_be_written_fails(made: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "sync_milliseconds", sync_milliseconds)  # here the disk itself is tried
    (made.settings.home / "store" / "incoming").rmdir()
    (made.settings.home / "store").rmdir()
    (made.settings.home / "store").write_text("", encoding="utf-8")
    assert look(made, "store").level == "failed"


@pytest.mark.parametrize(
    ("free", "level"), [(0.5e9, "failed"), (5e9, "warning"), (50e9, "ok")], ids=["half a GB", "5 GB", "50 GB"]
)
def test_little_space_is_said_before_it_ends(
    made: Site, free: float, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": int(free), "total": int(1e12)})
    monkeypatch.setattr("worker.doctor.storage.shutil.disk_usage", lambda _folder: usage)
    assert look(made, "space").level == level


@pytest.mark.parametrize(
    ("running", "level"), [((), "warning"), (UP, "failed")], ids=["nothing runs", "a listener runs"]
)
def test_silent_service_of_ours_is_a_failure_only_where_something_runs(
    made: Site, silent_port: int, running: tuple[ProcessState, ...], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_TRIAGE_DICOM_PORT", str(silent_port))
    assert look(made, "broker", running=running).level == level
    assert look(made, "listener", running=running).level == level


def test_configured_broker_that_is_silent_fails_without_its_password(
    made: Site, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_TRIAGE_BROKER_URL", f"redis://:hunter2@127.0.0.1:{silent_port}/0")
    finding = look(made, "broker")
    assert finding.level == "failed"
    assert "hunter2" not in str(finding)


def test_destination_that_is_silent_fails_and_the_others_do_not(
    made: Site, silent_port: int, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [("dead", silent_port), ("alive", listening)]
    entries = [{"name": name, "ae_title": "CXRTRIAGE", "host": "127.0.0.1", "port": port} for name, port in places]
    monkeypatch.setenv("CXR_TRIAGE_DESTINATIONS", json.dumps(entries))
    findings = list(CHECKS["destinations"](Examined(load_settings(home=made.settings.home), (), now)))
    assert [(each.check, each.level) for each in findings] == [
        ("destination dead", "failed"),
        ("destination alive", "ok"),
    ]


def test_a_sample_of_every_compressed_transfer_syntax_is_decoded(made: Site) -> None:
    native = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
    assert {sample.transfer_syntax_uid for sample in SAMPLES} == set(RECEIVED_TRANSFER_SYNTAXES) - native
    finding = look(made, "codecs")
    assert finding.level == "ok"
    assert "ljpeg_decode: JPEG Lossless, JPEG Lossless SV1" in finding.detail


@pytest.mark.parametrize(
    ("change", "said"),
    [({"frame": b"\xff\xd8\xff\xd9"}, "no readable header"), ({"tolerance": -1}, "decoded wrongly, by 0")],
    ids=["cannot be decoded", "decoded to other pixels"],
)
def test_decoder_that_fails_is_named(
    made: Site, change: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**vars(SAMPLES[3]), **change}
    monkeypatch.setattr("worker.analysis.codec_check.SAMPLES", (codec_samples.CodecSample(**values),))
    finding = look(made, "codecs")
    assert finding.level == "failed"
    assert (
        f"JPEG Lossless: {said}" in finding.detail
        or f"JPEG Lossless: the compressed frame has {said}" in finding.detail
    )


def test_active_model_that_is_gone_fails(made: Site) -> None:
    with made.database.write() as session:
        activation.activate(session, MODEL, now())
    finding = look(made, "engine")
    assert finding.level == "failed"
    assert "/models/first" in finding.detail


@pytest.mark.parametrize(
    ("minutes", "level"), [(1, "ok"), (20, "warning"), (90, "failed")], ids=["a minute", "20 minutes", "90 minutes"]
)
def test_image_that_waits_too_long_is_said(
    made: Site, minutes: int, level: str, new_instance: Callable[..., NewInstance]
) -> None:
    with made.database.write() as session:
        activation.activate(session, MODEL, now())
        record_instance(session, new_instance(received_at=now() - timedelta(minutes=minutes)))
    findings = {each.check: each for each in CHECKS["work"](Examined(made.settings, (), now))}
    assert findings["reading"].level == level
    assert findings["reading"].detail.startswith("1 wait, the oldest for ")
    assert findings["delivery"].level == "ok"
    assert "commitment" not in findings


@pytest.mark.parametrize(("minutes", "level"), [(1, "ok"), (90, "warning")], ids=["a minute", "90 minutes"])
def test_sender_that_is_not_told_what_is_committed_is_said(made: Site, minutes: int, level: str) -> None:
    with made.database.write() as session:
        record(
            session,
            transaction_uid="1.2",
            calling_ae="MODALITY",
            address="127.0.0.1",
            instances=[("1.2", "1.3")],
            now=now() - timedelta(minutes=minutes),
            due=now(),
        )
    finding = {each.check: each for each in CHECKS["work"](Examined(made.settings, (), now))}["commitment"]
    assert finding.level == level
    assert finding.detail.startswith("1 wait, the oldest for 1 ")
    assert finding.detail.endswith("; 0 reported, 0 given up")


def test_clock_that_differs_from_the_file_systems_is_said(made: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.doctor.network._synchronised", lambda: True)
    assert look(made, "clock").level == "ok"
    for offset, level in ((10, "warning"), (-100, "failed")):
        moment = now() + timedelta(seconds=offset)
        assert look(made, "clock", clock=lambda moment=moment: moment).level == level


def test_home_that_is_a_file_fails_its_own_check_and_ends_no_other(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    findings = {each.check: each for each in examine(tmp_path / "file", None, now, skip=["engine", "codecs"])}
    assert (findings["home"].level, "clock" in findings) == ("failed", True)


def test_clock_that_nothing_keeps_is_said(made: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.doctor.network._synchronised", lambda: False)
    assert (look(made, "clock").level, "NTP" in look(made, "clock").remedy) == ("warning", True)


def test_pages_open_to_the_network_are_said(made: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(made, "certificates").level == "ok"
    monkeypatch.setenv("CXR_TRIAGE_WEB_HOST", "0.0.0.0")
    assert "web on 0.0.0.0" in look(made, "certificates").detail
    assert look(made, "certificates").level == "warning"
