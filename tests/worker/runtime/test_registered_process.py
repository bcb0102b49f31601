"""A process has a row while it runs; it is gone by that row, by its heartbeat, or by its process id on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from db.engine import processes
from db.engine.leases import database_time
from db.engine.processes import ProcessIdentity
from db.engine.session import Database, DatabaseUnavailable
from db.tables.processes import Process
from tests.db.conftest import NOON
from tests.db.conftest import database as database
from tests.peers.processes import wait_until
from worker.installation import Site
from worker.monitoring.processes import process_states
from worker.runtime import registered_process
from worker.runtime.clock import now
from worker.runtime.registered_process import PROCESSES, RegisteredProcess
from worker.runtime.timeouts import ANALYSIS_LEASE, HEARTBEAT_EVERY, PROCESS_LOST

linux = pytest.mark.skipif(sys.platform != "linux", reason="process start times are read from /proc")


def row_of(database: Database, process: RegisteredProcess) -> Process:
    with database.read() as session:
        return session.get_one(Process, int(process.owner))


def gone(database: Database, judge: RegisteredProcess, owner: str) -> bool:
    with database.read() as session:
        return judge.judge(session, database_time(session, now))(owner)


@contextmanager
def another_process(database: Database) -> Iterator[tuple[subprocess.Popen[str], str]]:
    code = (
        "import sys; from db.engine.session import Database;"
        "from worker.runtime.registered_process import RegisteredProcess;"
        "database = Database(sys.argv[1]);"
        "print(RegisteredProcess(lambda: database, 'deliver').owner, flush=True); input()"
    )
    url = database.engine.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def elsewhere(database: Database, name: str = "work", host: str = "other") -> str:
    """Register a process of another machine, now."""
    with database.write() as session:
        identity = ProcessIdentity(name, host, "another boot", 1, "1")
        return str(processes.register(session, identity, database_time(session, now)))


def silence(database: Database, owner: str, by: timedelta) -> None:
    """Let a process's last heartbeat be so long ago."""
    with database.write() as session:
        row = session.get_one(Process, int(owner))
        row.heartbeat_at -= by


@linux
def test_killed_process_of_this_machine_is_gone_at_once_and_a_living_one_is_not(database: Database) -> None:
    judge = RegisteredProcess(lambda: database, "schedule")
    with another_process(database) as (process, owner):
        assert not gone(database, judge, owner)
        assert not gone(database, judge, judge.owner)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it
        assert gone(database, judge, owner), "a zombie"
        process.wait()
        assert gone(database, judge, owner)


@linux
def test_process_that_is_started_again_closes_the_row_of_the_one_that_was_killed(database: Database) -> None:
    with another_process(database) as (process, owner):
        process.kill()
        process.wait()
    RegisteredProcess(lambda: database, "listen").beat()
    with database.read() as session:
        assert [row.identity.name for row in processes.unstopped(session)] == ["deliver", "listen"]
    RegisteredProcess(lambda: database, "deliver").beat()
    with database.read() as session:
        assert owner not in {str(row.id) for row in processes.unstopped(session)}


@linux
def test_process_id_that_another_process_has_now_is_gone(database: Database) -> None:
    judge = RegisteredProcess(lambda: database, "schedule")
    owner = judge.owner
    with database.write() as session:
        session.execute(update(Process).values(pid_start="1"))
    assert gone(database, judge, owner)


@pytest.mark.parametrize("owner", ["", "nonsense", "404"])
def test_process_without_a_row_is_gone(database: Database, owner: str) -> None:
    assert gone(database, RegisteredProcess(lambda: database, "schedule"), owner)


def test_stopped_process_is_gone_wherever_it_ran(database: Database) -> None:
    judge = RegisteredProcess(lambda: database, "schedule")
    process = RegisteredProcess(lambda: database, "listen")
    with process:
        owner = process.owner
        assert not gone(database, judge, owner)
    assert gone(database, judge, owner)
    assert row_of(database, process).stopped_at is not None


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pass_time(clock: Clock, seconds: float, *beating: RegisteredProcess) -> None:
    for _ in range(round(seconds / HEARTBEAT_EVERY)):
        clock.time += timedelta(seconds=HEARTBEAT_EVERY)
        for process in beating:
            process.beat()


def test_process_of_another_machine_is_gone_when_its_heartbeat_is_old(site: Site, clock: Clock) -> None:
    judge = RegisteredProcess(lambda: site.database, "schedule", clock=clock)
    judge.beat()
    with site.database.write() as session:
        silent = str(processes.register(session, ProcessIdentity("work", "other", "boot", 1, "1"), clock()))
    pass_time(clock, 40, judge)
    with site.database.read() as session:
        assert not judge.judge(session, clock())(silent)
    pass_time(clock, 20, judge)
    with site.database.read() as session:
        assert judge.judge(session, clock())(silent)
        assert not judge.judge(session, clock())(judge.owner)


def test_process_whose_heartbeat_was_written_by_a_clock_that_ran_ahead_is_gone(site: Site, clock: Clock) -> None:
    judge = RegisteredProcess(lambda: site.database, "schedule", clock=clock)
    judge.beat()
    ahead = clock() + timedelta(days=1)  # it ended, the machine started anew, and its clock was corrected
    with site.database.write() as session:
        ended = str(processes.register(session, ProcessIdentity("work", "other", "boot", 1, "1"), ahead))
    pass_time(clock, 60, judge)
    with site.database.read() as session:
        assert judge.judge(session, clock())(ended)
    assert {each.state for each in process_states(site.database, clock) if each.name == "work"} == {"lost"}


def test_nobody_is_gone_by_an_old_heartbeat_when_the_database_has_just_come_back(site: Site, clock: Clock) -> None:
    judge = RegisteredProcess(lambda: site.database, "schedule", clock=clock)
    with site.database.write() as session:
        other = ProcessIdentity("work", "other", "boot", 1, "1")
        number = processes.register(session, other, clock())
    for _ in range(8):
        pass_time(clock, HEARTBEAT_EVERY, judge)
        with site.database.write() as session:
            assert processes.beat(session, number, other, clock())
    clock.time += timedelta(minutes=5)  # nobody could write
    with site.database.read() as session:
        assert not judge.judge(session, clock())(str(number)), "before its own heartbeat"
    judge.beat()
    with site.database.read() as session:
        assert not judge.judge(session, clock())(str(number)), "the other has had no time to write its own"
    pass_time(clock, PROCESS_LOST.total_seconds() + HEARTBEAT_EVERY, judge)
    with site.database.read() as session:
        assert judge.judge(session, clock())(str(number))


def test_process_that_registers_while_leases_are_judged_is_not_gone(database: Database) -> None:
    judge = RegisteredProcess(lambda: database, "schedule")
    with database.read() as session:
        is_gone = judge.judge(session, now())
        late = elsewhere(database)
        assert not is_gone(late)


def test_database_that_is_away_is_waited_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered_process, "HEARTBEAT_EVERY", 0.02)
    asked = []

    def away_at_first() -> Database:
        asked.append(1)
        if len(asked) < 3:
            raise DatabaseUnavailable("away")
        return database

    def registered() -> list[str]:
        with database.read() as session:
            return [row.identity.name for row in processes.unstopped(session)]

    with RegisteredProcess(away_at_first, "web"):
        wait_until(lambda: registered() == ["web"], 60, "registered")
    assert registered() == []


def test_process_whose_row_is_gone_or_anothers_registers_again(database: Database) -> None:
    process = RegisteredProcess(lambda: database, "listen")
    first = process.owner
    with database.write() as session:
        session.execute(update(Process).values(host="of a restored backup"))
    process.beat()
    assert process.owner != first
    with database.write() as session:
        session.execute(text("DELETE FROM process"))
    process.beat()
    with database.read() as session:
        assert session.scalars(select(Process.name)).all() == ["listen"]


def test_old_rows_are_pruned(database: Database) -> None:
    kept, old = elsewhere(database), elsewhere(database)
    silence(database, old, timedelta(days=2))
    with database.write() as session:
        assert processes.prune(session, database_time(session, now) - timedelta(days=1)) == 1
    with database.read() as session:
        assert [str(row.id) for row in processes.unstopped(session)] == [kept]


def test_states_say_who_runs_where_who_is_lost_and_who_is_missing(database: Database) -> None:
    process = RegisteredProcess(lambda: database, "listen")
    process.beat()
    for name, host, is_lost in (
        ("deliver", "other", True),
        ("work", "other", True),
        ("work", "other", False),  # started again there
        ("work", "third", False),
        ("analysis child", "third", False),
    ):
        owner = elsewhere(database, name, host)
        if is_lost:
            silence(database, owner, PROCESS_LOST * 2)
    states = process_states(database, now)
    assert [(each.name, each.state) for each in states] == [
        ("listen", "running"),
        ("work", "running"),
        ("work", "running"),
        ("deliver", "lost"),
        ("schedule", "missing"),
        ("web", "missing"),
        ("analysis child", "running"),
    ]
    assert {each.host for each in states if each.name == "work"} == {"other", "third"}
    assert states[0].pid == os.getpid()
    assert str(states[-2]) == "web missing"
    assert str(states[3]).endswith(" s ago")


def test_limit_is_shorter_than_any_lease_and_longer_than_a_late_heartbeat() -> None:
    assert timedelta(seconds=HEARTBEAT_EVERY + 10 + 20) < PROCESS_LOST < ANALYSIS_LEASE
    assert PROCESSES == ("listen", "work", "deliver", "schedule", "web")


@linux
def test_children_forked_during_heartbeats_can_use_the_database(site: Site, tmp_path: Path) -> None:
    site.database.ping()
    code = """
import os, sys
from db.engine.session import Database
from worker.runtime import registered_process
registered_process.HEARTBEAT_EVERY = 0.0
url = sys.argv[1]
mine = Database(url)
with registered_process.RegisteredProcess(lambda: mine, "work", forks=True):
    for _ in range(40):
        child = os.fork()
        if child == 0:
            Database(url).ping()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
print("ended")
"""
    url = site.database.engine.url.render_as_string(hide_password=False)
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.endswith("ended\n"), done.stdout + done.stderr
