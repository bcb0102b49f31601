"""The schema that Alembic makes is the schema that the tables describe, and a foreign one is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import db.migrations
from db.schema import HEAD_REVISION, SchemaMismatch, installation_uid, prepare, revision, upgrade
from db.session import Database, DatabaseUnavailable, sqlite_url
from db.tables import Base
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
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match=r"revision 9999.*needs 0002.*db upgrade"):
        prepare(database, NOON)


def test_database_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        Database(sqlite_url(tmp_path / "no" / "such" / "folder.sqlite")).ping()


def test_url_that_is_none_is_explained() -> None:
    with pytest.raises(DatabaseUnavailable, match="sqlite:///PATH"):
        Database("not a url")
