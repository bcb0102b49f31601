"""A worker whose broker dies under its running tasks hears the next notification; how a child ended is reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.processes import Process, wait_until
from worker.analysis.celery_request import why_stopped
from worker.installation import Site
from worker.queue.celery_app import ANALYSE, make_app
from worker.queue.embedded_server import start_embedded

# a worker of one child, with our request class, whose task says when it runs and waits to be let go
_WORKER = """
import sys, time
from pathlib import Path
from worker.queue.celery_app import ANALYSE, make_app
from worker.config.settings import load_settings
folder = Path(sys.argv[2])
app = make_app(load_settings(home=Path(sys.argv[1])))

@app.task(name=ANALYSE, Request="worker.analysis.celery_request:Request")
def analyse(ids):
    (folder / f"began-{ids[0]}").touch()
    while not (folder / f"go-{ids[0]}").exists():
        time.sleep(0.05)
    (folder / f"ended-{ids[0]}").touch()

app.Worker(queues=["live", "batch"], concurrency=1, pool_cls="prefork", without_gossip=True, without_mingle=True,
           without_heartbeat=True, loglevel="WARNING", quiet=True).start()
"""


def test_task_that_ends_while_the_broker_is_away_does_not_make_the_worker_deaf(site: Site, tmp_path: Path) -> None:
    broker = start_embedded(site.settings, tmp_path / "broker.log")
    words = [sys.executable, "-c", _WORKER, str(site.settings.home), str(tmp_path)]
    worker = Process("worker", words, tmp_path / "worker.log", Path.cwd())
    worker.start()
    try:
        make_app(site.settings).send_task(ANALYSE, args=[[1]], queue="live")
        wait_until((tmp_path / "began-1").exists, 60, "the task runs")
        broker.kill()
        broker.wait()
        (tmp_path / "go-1").touch()
        wait_until((tmp_path / "ended-1").exists, 60, "the task ended without a broker")
        wait_until(lambda: "Couldn't ack" in worker.log_text() or "broker lost" in worker.log_text(), 60, "said")
        broker = start_embedded(site.settings, tmp_path / "broker.log")
        (tmp_path / "go-2").touch()
        make_app(site.settings).send_task(ANALYSE, args=[[2]], queue="live")
        wait_until((tmp_path / "ended-2").exists, 60, "the next task runs")
    finally:
        worker.stop()
        broker.kill()
        broker.wait()


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="waitid is not to be had on this system")
def test_child_that_died_unnoticed_is_not_told_as_one_that_hung() -> None:
    hung = "it did not end within 4 s, so its process was stopped"
    ends = {"os.kill(os.getpid(), signal.SIGSEGV)": "signal 11 (SIGSEGV)", "sys.exit(3)": "exit code 3"}
    for end, how in ends.items():
        child = subprocess.Popen(
            [sys.executable, "-c", f"import os, signal, sys; input(); {end}"], stdin=subprocess.PIPE
        )
        assert why_stopped(child.pid, 4) == hung, "it lives"
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert why_stopped(child.pid, 4) == f"its process died: {how}"
        child.wait()
        assert why_stopped(child.pid, 4) == hung, "the pool has ended it"
