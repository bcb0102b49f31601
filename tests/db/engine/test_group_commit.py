"""Writes that come at once are committed together; what one of them does wrong is its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import event, text

from db.engine.group_commit import GroupedWrites
from db.engine.session import Database, DatabaseUnavailable, Session
from tests.peers.processes import wait_until


def insert(name: str) -> Callable[[Session], str]:
    def job(session: Session) -> str:
        session.execute(text("INSERT INTO place (name) VALUES (:name)"), {"name": name})
        return name

    return job


@pytest.fixture
def table(database: Database) -> Database:
    with database.write() as session:
        session.execute(text("CREATE TABLE place (name VARCHAR(10) PRIMARY KEY)"))
    return database


def names(database: Database) -> list[str]:
    with database.read() as session:
        return sorted(session.scalars(text("SELECT name FROM place")))


def at_once(
    database: Database, jobs: list[Callable[[Session], str]], before_the_others: Callable[[], None] = lambda: None
) -> tuple[list[Future[str]], int]:
    """Run jobs that all come while a first one writes; what became of them, and how often was committed for them."""
    writes, began, go = GroupedWrites(database), threading.Event(), threading.Event()
    commits: list[object] = []

    def first(session: Session) -> str:
        began.set()
        assert go.wait(60)
        return insert("first")(session)

    with ThreadPoolExecutor(len(jobs) + 1) as pool:
        leading = pool.submit(writes.run, first)
        assert began.wait(60)
        event.listen(database.engine, "commit", commits.append)
        waiting = [pool.submit(writes.run, job) for job in jobs]
        if database.is_sqlite:
            wait_until(lambda: writes.waiting == len(jobs), 60, "all of them wait")
            before_the_others()
        go.set()
        assert leading.result(60) == "first"
    return waiting, len(commits) - 1


def test_writes_that_come_at_once_share_a_commit(table: Database) -> None:
    done, commits = at_once(table, [insert(name) for name in "abcd"])
    assert [each.result() for each in done] == list("abcd")
    assert names(table) == [*"abcd", "first"]
    assert commits == (1 if table.is_sqlite else 4)


def test_one_that_fails_costs_the_others_nothing(table: Database) -> None:
    def wrong(session: Session) -> str:
        insert("wrong")(session)
        raise LookupError("its own fault")

    done, _ = at_once(table, [insert("a"), wrong, insert("b")])
    assert (done[0].result(), done[2].result()) == ("a", "b")
    with pytest.raises(LookupError, match="its own fault"):
        done[1].result()
    assert names(table) == ["a", "b", "first"]


def test_a_database_that_is_away_is_tried_once_for_all(table: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    if not table.is_sqlite:
        pytest.skip("only SQLite's writes are grouped")
    tried: list[int] = []

    def away() -> None:
        tried.append(1)
        raise DatabaseUnavailable("it is locked")

    done, _ = at_once(table, [insert(name) for name in "abc"], lambda: monkeypatch.setattr(table, "write", away))
    for each in done:
        with pytest.raises(DatabaseUnavailable, match="it is locked"):
            each.result()
    assert len(tried) == 1
    assert names(table) == ["first"]
