"""What a database must never do: quote patients in an error, or keep in its file what was deleted."""

from __future__ import annotations

import sqlite3
import threading
import traceback
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, text
from sqlalchemy.exc import DataError

from db.engine.schema import prepare
from db.engine.session import Database, DatabaseUnavailable, sqlite_url
from db.tables.studies import Study
from tests.db.conftest import NOON
from tests.peers.postgres import Postgres

STUDY = {
    "study_instance_uid": "1.2.3",
    "patient_id": "P-4711",
    "patient_name": "Doe^Jane",
    "patient_birth_date": "19700131",
    "patient_sex": "F",
    "accession_number": "",
    "study_date": "",
    "study_time": "",
    "study_description": "",
    "arrived_at": NOON,
    "priority": "MEDIUM",
    "score": 0.5,
    "reading_key": 0.0,
}


def test_traceback_of_a_failed_statement_names_no_patient(database: Database) -> None:
    with database.write() as session:
        session.execute(insert(Study).values(STUDY))
    with pytest.raises(DatabaseUnavailable) as caught, database.write() as session:
        session.execute(insert(Study).values(STUDY))  # the UID is taken
    told = "".join(traceback.format_exception(caught.value))
    assert "study_instance_uid" in told
    assert not [word for word in ("Doe^Jane", "P-4711", "19700131") if word in told]


@pytest.mark.peer
def test_value_that_never_fits_is_not_told_as_a_database_that_is_away(request: pytest.FixtureRequest) -> None:
    database = Database(request.getfixturevalue("postgres").database())
    prepare(database, NOON)
    with pytest.raises(DataError), database.write() as session:
        session.execute(insert(Study).values({**STUDY, "study_instance_uid": "1" * 65}))
    database.dispose()


def test_deleted_row_is_gone_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite"
    database = Database(sqlite_url(path))
    prepare(database, NOON)
    with database.write() as session:
        session.execute(insert(Study).values(STUDY))
    assert checkpointed(database, path).count(b"Doe^Jane") == 1
    with database.write() as session:
        session.execute(delete(Study))
    assert b"Doe^Jane" not in checkpointed(database, path)


def checkpointed(database: Database, path: Path) -> bytes:
    with database.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    return path.read_bytes()


@pytest.mark.peer
def test_lock_that_is_not_given_up_ends_the_wait_for_it(postgres: Postgres) -> None:
    database = Database(postgres.database())
    with database.read() as session:
        assert session.scalar(text("SHOW lock_timeout")) == "20s"
    database.dispose()


def test_a_new_file_that_another_process_is_writing_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # before it has a write-ahead log
    release = threading.Timer(0.3, other.rollback)
    release.start()
    try:
        Database(sqlite_url(path)).ping()
    finally:
        release.join()
        other.close()
