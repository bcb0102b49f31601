"""A process that dies is started again, later each time, and said; stopping is in order and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.runtime.timeouts import RESTART_BACKOFF, RESTART_FORGIVEN
from worker.standalone.supervisor import Program, Supervisor, last_line


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sleeper(name: str, folder: Path, code: str = "import time; time.sleep(600)") -> Program:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code])

    return Program(name, folder / f"{name}.log", start)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def supervise(tmp_path: Path, clock: Clock) -> Callable[..., tuple[Supervisor, list[str]]]:
    def make(*programs: Program) -> tuple[Supervisor, list[str]]:
        said: list[str] = []
        names = [program.name for program in programs]
        return Supervisor(programs, names, said.append, clock), said

    return make


Supervise = Callable[..., tuple[Supervisor, list[str]]]


def die(supervisor: Supervisor, name: str) -> None:
    process = supervisor.kept[name].process
    assert process is not None
    process.kill()
    process.wait()
    supervisor.tend()


def test_dead_process_is_started_again_after_its_backoff_and_both_are_said(
    tmp_path: Path, clock: Clock, supervise: Supervise
) -> None:
    supervisor, said = supervise(sleeper("work", tmp_path))
    supervisor.start()
    die(supervisor, "work")
    assert said == ["work died (signal 9), starting it again in 1 s"]
    supervisor.tend()
    assert supervisor.kept["work"].process is None
    clock.now += RESTART_BACKOFF[0]
    supervisor.tend()
    assert supervisor.kept["work"].running
    assert said[-1] == "work started again"
    supervisor.kill()


def test_process_that_ends_by_itself_is_quoted_with_its_last_words(tmp_path: Path, supervise: Supervise) -> None:
    supervisor, said = supervise(sleeper("work", tmp_path, "raise SystemExit(3)"))
    (tmp_path / "work.log").write_text("disk is full\n\n", encoding="utf-8")
    supervisor.start()
    process = supervisor.kept["work"].process
    assert process is not None
    process.wait()
    supervisor.tend()
    assert said == ["work died (exit 3), starting it again in 1 s: disk is full"]


def test_process_that_keeps_dying_waits_longer_and_is_forgiven_after_a_quiet_while(
    tmp_path: Path, clock: Clock, supervise: Supervise
) -> None:
    supervisor, _said = supervise(sleeper("work", tmp_path))
    supervisor.start()
    delays = []
    for _ in range(len(RESTART_BACKOFF) + 1):
        die(supervisor, "work")
        delays.append(supervisor.kept["work"].due_at - clock.now)
        clock.now += delays[-1]
        supervisor.tend()
    assert delays == [*RESTART_BACKOFF, RESTART_BACKOFF[-1]]
    clock.now += RESTART_FORGIVEN + 1
    die(supervisor, "work")
    assert supervisor.kept["work"].due_at - clock.now == RESTART_BACKOFF[0]


def test_stopping_is_in_order_and_leaves_nothing(tmp_path: Path, supervise: Supervise) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys, time; name = %r; "
        f"signal.signal(15, lambda *_: (open({str(order)!r}, 'a').write(name + ' '), sys.exit())); "
        "print(flush=True); time.sleep(600)"
    )

    def speaking(name: str) -> Program:
        def start() -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, "-c", code % name], stdout=subprocess.PIPE)
            assert process.stdout is not None
            with process.stdout:
                process.stdout.readline()  # it has its signal handler now
            return process

        return Program(name, tmp_path / "log", start)

    supervisor, said = supervise(speaking("listen"), speaking("work"), speaking("broker"))
    supervisor.start()
    supervisor.stop()
    assert order.read_text(encoding="utf-8").split() == ["listen", "work", "broker"]
    assert not any(kept.running for kept in supervisor.kept.values())
    assert said == []


def test_process_that_cannot_be_started_is_tried_again(tmp_path: Path, clock: Clock, supervise: Supervise) -> None:
    missing = Program("work", tmp_path / "log", lambda: subprocess.Popen([str(tmp_path / "no-such-program")]))
    supervisor, said = supervise(missing)
    supervisor.start()
    assert "could not be started" in said[0]
    assert supervisor.kept["work"].due_at == clock.now + RESTART_BACKOFF[0]
    clock.now = supervisor.kept["work"].due_at
    supervisor.tend()
    assert [line for line in said if "started again" in line] == []


def test_last_line_of_a_log_that_has_grown_for_months_is_found_at_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(4_000_000_000)  # sparse: takes no space, but could not be read whole
        file.seek(0, 2)
        file.write("x\nDie Platte ist voll: ä\n\n".encode())
    assert last_line(log) == "Die Platte ist voll: ä"
