"""The schema that Alembic makes is the schema that the tables describe, and a foreign one is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text

import db.migrations
from db.delivery.objects import newest_revision
from db.engine import processes
from db.engine.schema import HEAD_REVISION, SchemaMismatch, installation_uid, prepare, revision, upgrade
from db.engine.session import Database, DatabaseUnavailable, StatementRejected, sqlite_url
from db.records import ObjectKey
from db.tables.base import Base
from db.tables.delivery import Delivery, MadeObject, ObjectSource
from db.tables.gate import GateDecision
from db.tables.studies import MisfiledLocation
from tests.db.conftest import NOON


def test_migrations_make_exactly_the_tables_of_the_program(database: Database) -> None:
    with database.write() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": False})
        assert compare_metadata(context, Base.metadata) == []


def test_head_revision_is_that_of_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(next(iter(db.migrations.__path__)))))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD_REVISION


def test_upgrading_twice_keeps_the_installation_and_its_rows(database: Database) -> None:
    with database.read() as session:
        first = installation_uid(session)
    assert upgrade(database, NOON) == HEAD_REVISION
    with database.read() as session:
        assert installation_uid(session) == first
    assert revision(database) == HEAD_REVISION


def test_upgrade_from_0002_marks_what_came_while_no_model_was_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(sqlite_url(tmp_path / "old.sqlite"))
    with monkeypatch.context() as patch:
        patch.setattr("db.engine.schema.HEAD_REVISION", "0002")
        upgrade(database, NOON)
    instance = (
        "INSERT INTO instance (id, sop_class_uid, series_instance_uid, transfer_syntax_uid, origin, calling_ae,"
        " correlation_id, received_at, flags) VALUES ({id}, '1', '1', '1', '{origin}', 'A', '0', '2026-01-01', '[]')"
    )
    decision = (
        "INSERT INTO gate_decision (id, instance_id, rules_version, accepted, rule, reason, facts, flags, decided_at)"
        " VALUES ({id}, {id}, '1', {accepted}, 'r', '', '{{}}', '[]', '2026-01-01')"
    )
    analysis = (
        "INSERT INTO analysis (id, instance_id, model_digest, preprocessing_id, model_name, state, reason, attempts,"
        " created_at, engine, precision, application_version, source_sha256, flags, outside_domain, record)"
        " VALUES (2, 2, 'd', 'p', 'm', 'done', '', 1, '2026-01-01', '', '', '', '', '[]', 0, '{}')"
    )
    # 1 waits, 2 was read, 3 was refused, 4 is of an archive
    rows = [(1, "live", True), (2, "live", True), (3, "live", False), (4, "archive", True)]
    with database.write() as session:
        driver = session.connection().connection.dbapi_connection
        assert driver is not None
        for number, origin, accepted in rows:
            driver.cursor().execute(instance.format(id=number, origin=origin))
            driver.cursor().execute(decision.format(id=number, accepted=int(accepted)))
        driver.cursor().execute(analysis)
    upgrade(database, NOON)
    with database.read() as session:
        assert list(session.scalars(select(GateDecision.instance_id).where(GateDecision.waits.is_(True)))) == [1]


def test_upgrade_from_0006_finds_the_images_that_came_under_another_studys_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(sqlite_url(tmp_path / "old.sqlite"))
    with monkeypatch.context() as patch:
        patch.setattr("db.engine.schema.HEAD_REVISION", "0006")
        upgrade(database, NOON)
    with database.write() as session:
        driver = session.connection().connection.dbapi_connection
        assert driver is not None
        for number in (1, 2):
            driver.cursor().execute(
                "INSERT INTO study (id, study_instance_uid, patient_id, patient_name, patient_birth_date, patient_sex,"
                " accession_number, study_date, study_time, study_description, arrived_at, priority, score,"
                " reading_key)"
                f" VALUES ({number}, '1.2.{number}', '', '', '', '', '', '', '', '', '2026-01-01', 'MEDIUM', 0, 0)"
            )
        driver.cursor().execute(
            "INSERT INTO instance (id, study_id, sop_class_uid, series_instance_uid, transfer_syntax_uid, origin,"
            " calling_ae, correlation_id, received_at, flags) VALUES (1, 1, '1', '1', '1', 'live', 'A', '0',"
            " '2026-01-01', '[]')"
        )
        for number, named in ((1, "1.2.1"), (2, "1.2.2"), (3, "1.2.404")):
            driver.cursor().execute(
                "INSERT INTO location (id, instance_id, uri, sha256, size, received_at, calling_ae, study_instance_uid)"
                f" VALUES ({number}, 1, 'u{number}', 's', 1, '2026-01-01', 'A', '{named}')"
            )
    upgrade(database, NOON)
    with database.read() as session:
        assert session.execute(select(MisfiledLocation.location_id, MisfiledLocation.study_id)).all() == [(2, 2)]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def older(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database, to be given the schema of a former version."""
    is_sqlite = request.param == "sqlite"
    url = sqlite_url(tmp_path / "older.sqlite") if is_sqlite else request.getfixturevalue("postgres").database()
    opened = Database(url)
    yield opened
    opened.dispose()


def test_upgrade_from_0008_releases_what_the_former_program_held_and_keeps_the_rest(
    older: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("db.engine.schema.HEAD_REVISION", "0008")
        upgrade(older, NOON)
    held = ("'host/boot/pid:[1]/7/99'", "'2026-03-01 12:00:00+00:00'")
    with older.write() as session:
        session.execute(
            text(
                "INSERT INTO study (id, study_instance_uid, patient_id, patient_name, patient_birth_date, patient_sex,"
                " accession_number, study_date, study_time, study_description, arrived_at, priority, score,"
                " reading_key) VALUES (1, '1.2', '', '', '', '', '', '', '', '', '2026-01-01', 'MEDIUM', 0, 0)"
            )
        )
        session.execute(
            text(
                "INSERT INTO instance (id, study_id, sop_class_uid, series_instance_uid, transfer_syntax_uid, origin,"
                " calling_ae, correlation_id, received_at, flags) VALUES (1, 1, '1', '1', '1', 'live', 'A', '0',"
                " '2026-01-01', '[]')"
            )
        )
        for number, (state, owner, until) in enumerate((("running", *held), ("done", "NULL", "NULL")), 1):
            session.execute(
                text(
                    "INSERT INTO analysis (id, instance_id, model_digest, preprocessing_id, model_name, state, reason,"
                    " attempts, lease_owner, lease_until, enqueued_at, created_at, engine, precision,"
                    " application_version, source_sha256, flags, outside_domain, record)"
                    f" VALUES ({number}, 1, 'd{number}', 'p', 'm', '{state}', '', 2, {owner}, {until}, '2026-01-01',"
                    " '2026-01-01', '', '', '', '', '[]', false, '{}')"
                )
            )
        session.execute(
            text(
                "INSERT INTO object (id, kind, subject_uid, model_digest, preprocessing_id, label, variant, revision,"
                " study_id, analysis_id, sop_instance_uid, uri, sha256, size, created_at)"
                " VALUES (1, 'heatmap', '1', 'd', 'p', 'l', '', 1, 1, 2, '1.2.3', 'u', 's', 1, '2026-01-01')"
            )
        )
        for destination, state, owner, until in (("a", "sending", *held), ("b", "sent", "NULL", "NULL")):
            session.execute(
                text(
                    "INSERT INTO delivery (object_id, destination, state, reason, attempts, next_attempt_at,"
                    " lease_owner, lease_until, created_at)"
                    f" VALUES (1, '{destination}', '{state}', '', 2, '2026-01-01', {owner}, {until}, '2026-01-01')"
                )
            )
        for transaction, state, owner, until in (("1", "reporting", *held), ("2", "reported", "NULL", "NULL")):
            session.execute(
                text(
                    "INSERT INTO commitment (transaction_uid, calling_ae, address, instances, state, reason, attempts,"
                    " next_attempt_at, lease_owner, lease_until, requested_at, committed, refused)"
                    f" VALUES ('{transaction}', 'A', '', '[]', '{state}', '', 2, '2026-01-01', {owner}, {until},"
                    " '2026-01-01', 0, 0)"
                )
            )
    upgrade(older, NOON)
    with older.read() as session:
        for table, kept in (("analysis", "done"), ("delivery", "sent"), ("commitment", "reported")):
            rows = session.execute(
                text(f"SELECT state, attempts, lease_owner, lease_until FROM {table} ORDER BY id")
            ).all()
            assert [tuple(row) for row in rows] == [("pending", 2, None, None), (kept, 2, None, None)]
        assert session.scalars(text("SELECT enqueued_at IS NULL FROM analysis ORDER BY id")).all() == [True, False]
    with older.write() as session:
        identity = processes.ProcessIdentity("listen", "host", "boot", 7, "99")
        number = processes.register(session, identity, NOON)
        assert [each.id for each in processes.unstopped(session)] == [number]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def test_upgrade_from_0008_keeps_every_object_its_uid_its_source_and_its_deliveries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, kind: str
) -> None:
    if kind == "sqlite":
        database = Database(sqlite_url(tmp_path / "old.sqlite"))
    else:
        database = Database(request.getfixturevalue("postgres").database())
    with monkeypatch.context() as patch:
        patch.setattr("db.engine.schema.HEAD_REVISION", "0008")
        upgrade(database, NOON)
    with database.write() as session:
        for statement in (
            "INSERT INTO study (id, study_instance_uid, patient_id, patient_name, patient_birth_date, patient_sex,"
            " accession_number, study_date, study_time, study_description, arrived_at, priority, score, reading_key)"
            " VALUES (1, '1.2.1', '', '', '', '', '', '', '', '', '2026-01-01', 'MEDIUM', 0, 0)",
            "INSERT INTO instance (id, study_id, sop_class_uid, series_instance_uid, transfer_syntax_uid, origin,"
            " calling_ae, correlation_id, received_at, flags)"
            " VALUES (1, 1, '1', '1', '1', 'live', 'A', '0', '2026-01-01', '[]')",
            "INSERT INTO analysis (id, instance_id, model_digest, preprocessing_id, model_name, state, reason,"
            " attempts, created_at, engine, precision, application_version, source_sha256, flags, outside_domain,"
            " record) VALUES (7, 1, 'd', 'p', 'm', 'done', '', 1, '2026-01-01', '', '', '', '', '[]', false, '{}')",
            "INSERT INTO object (id, kind, subject_uid, model_digest, preprocessing_id, label, variant, revision,"
            " study_id, analysis_id, sop_instance_uid, uri, sha256, size, created_at) VALUES"
            " (3, 'heatmap', '1.2.3', 'd', 'p', 'Mass', '', 2, 1, 7, '2.25.3', 'store:3', 's', 1, '2026-01-01'),"
            " (4, 'heatmap', '1.2.3', 'd', 'p', 'Edema', '', 2, 1, 7, '2.25.4', 'store:4', 's', 1, '2026-01-01')",
            "INSERT INTO delivery (id, object_id, destination, state, reason, attempts, next_attempt_at, created_at)"
            " VALUES (5, 3, 'pacs', 'sent', '', 1, '2026-01-01', '2026-01-01'),"
            " (6, 4, 'pacs', 'pending', 'A700', 2, '2026-01-01', '2026-01-01')",
        ):
            session.execute(text(statement.replace(":", "\\:")))
    upgrade(database, NOON)
    with database.write() as session:
        kept = session.execute(
            select(MadeObject.id, MadeObject.sop_instance_uid, MadeObject.revision, MadeObject.inputs_digest)
        ).all()
        assert sorted(kept) == [(3, "2.25.3", 2, "rendering version 2"), (4, "2.25.4", 2, "rendering version 2")]
        sources = select(ObjectSource.object_id, ObjectSource.analysis_id)
        assert sorted(session.execute(sources).all()) == [(3, 7), (4, 7)]
        deliveries = session.execute(
            select(Delivery.id, Delivery.object_id, Delivery.state, Delivery.reason, Delivery.attempts)
        ).all()
        assert sorted(deliveries) == [(5, 3, "sent", "", 1), (6, 4, "pending", "A700", 2)]
        context = MigrationContext.configure(session.connection(), opts={"compare_type": False})
        assert compare_metadata(context, Base.metadata) == []
        key = ObjectKey("heatmap", "1.2.3", "d", "p", "Mass", "")
        assert newest_revision(session, key) == (2, "rendering version 2")
    with pytest.raises(StatementRejected), database.write() as session:  # the foreign key is still there
        session.execute(
            text(
                "INSERT INTO delivery (object_id, destination, state, reason, attempts, next_attempt_at, created_at)"
                " VALUES (404, 'pacs', 'pending', '', 0, '2026-01-01', '2026-01-01')"
            )
        )
    database.dispose()


def test_processes_that_start_together_on_an_empty_database_agree(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "together.sqlite")
    failures: list[DatabaseUnavailable] = []

    def start() -> None:
        try:
            prepare(Database(url), NOON)
        except DatabaseUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert revision(Database(url)) == HEAD_REVISION


def test_database_of_another_program_version_is_refused_with_the_mend(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(SchemaMismatch, match=rf"revision 0001.*needs {HEAD_REVISION}.*db upgrade"):
        prepare(database, NOON)


@pytest.mark.parametrize("start", [prepare, upgrade])
def test_database_of_a_newer_program_is_refused_by_every_command(
    database: Database, start: Callable[[Database, datetime], object]
) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match=rf"revision 9999.*needs {HEAD_REVISION}: a newer program"):
        start(database, NOON)
    assert revision(database) == "9999"


def test_database_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        Database(sqlite_url(tmp_path / "no" / "such" / "folder.sqlite")).ping()


def test_url_that_is_none_is_explained() -> None:
    with pytest.raises(DatabaseUnavailable, match="sqlite:///PATH"):
        Database("not a url")
    for url in ("postgresql+psycopg://u:x@h:port/x", "sqlite:////tmp/x.sqlite?timeout=long"):
        with pytest.raises(DatabaseUnavailable, match="not a number"):
            Database(url)


def test_password_among_the_options_of_the_url_is_in_no_message() -> None:
    database = Database("postgresql+psycopg://u@127.0.0.1:1/x?password=s3cret&sslmode=disable")
    with pytest.raises(DatabaseUnavailable, match=r"password=\*\*\*&sslmode=disable") as fault:
        database.ping()
    assert "s3cret" not in str(fault.value)


def test_nothing_is_written_into_a_sqlite_file_that_was_removed_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gone.sqlite"
    database = Database(sqlite_url(path))
    prepare(database, NOON)
    database.ping()
    for file in tmp_path.glob("gone.sqlite*"):
        file.unlink()
    with pytest.raises(DatabaseUnavailable, match="no such table"), database.write() as session:
        session.execute(text("UPDATE installation SET created_at = created_at"))
    prepare(Database(sqlite_url(path)), NOON)  # as the next command does
    with database.write() as session:
        session.execute(text("UPDATE installation SET created_at = :now"), {"now": "2026-01-01 00:00:00"})
    with Database(sqlite_url(path)).read() as session:
        assert session.scalar(text("SELECT created_at FROM installation")) == "2026-01-01 00:00:00"
