"""The worklist of an installation that has seen many studies."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import event, insert

from db.engine.schema import prepare
from db.engine.session import Database, sqlite_url
from db.tables.studies import Study
from db.views.worklist import worklist
from tests.db.conftest import NOON


def test_whole_worklist_fits_into_the_variables_of_a_statement_and_keeps_its_order(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "many.sqlite"))
    prepare(database, NOON)
    rest = dict.fromkeys(("patient_id", "patient_name", "patient_birth_date", "patient_sex", "accession_number"), "")
    rest |= dict.fromkeys(("study_date", "study_time", "study_description"), "")
    rows = [
        {
            "study_instance_uid": f"1.2.{n}",
            "arrived_at": NOON,
            "latest_at": NOON,
            "priority": "LOW",
            "score": 0.1,
            "reading_key": -n,
            **rest,
        }
        for n in range(1201)
    ]
    with database.write() as session:
        session.execute(insert(Study), rows)
    database.dispose()

    @event.listens_for(database.engine, "connect")
    def fewer(connection: sqlite3.Connection, _record: object) -> None:  # as many as SQLite allows would take long
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 600)

    with database.read() as session:
        assert [item.study_instance_uid for item in worklist(session)] == [row["study_instance_uid"] for row in rows]
        assert [item.study_instance_uid for item in worklist(session, 2, offset=700)] == ["1.2.700", "1.2.701"]
