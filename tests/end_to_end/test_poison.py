"""An image that crashes its decoder, or hangs in it, costs one result or one picture; worker and pages go on."""

from __future__ import annotations

import hashlib
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.peers import dcmtk, poison
from tests.peers.processes import Process, wait_until
from tests.peers.radiographs import chest
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]

LIMIT = 4
# the worker's own way in, with decoders that crash and hang, and less patience
_WORKER = f"""
import worker.runtime.timeouts
worker.runtime.timeouts.ANALYSIS_TIME_LIMIT = {LIMIT}
from tests.peers import poison
poison.install()
from worker.__main__ import main
main()
"""
# the web process's own way in; the decoders are poisoned in the process that it starts for them
_WEB = f"""
import worker.runtime.timeouts
worker.runtime.timeouts.PICTURE_TIME_LIMIT = {LIMIT}
from tests.peers import poison
from worker.web import image_process
image_process.begin = poison.begin_drawing
from worker.__main__ import main
main()
"""


def test_a_decoder_that_crashes_or_hangs_costs_one_image_and_never_the_worker(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        words = [sys.executable, "-c", _WORKER, *site.command("work")[1:]]
        site.processes["work"] = Process("work", words, site.logs / "work.log", Path.cwd(), site.environment())
        site.start("listen", "schedule", "web", "work")
        worker = site["work"].pid
        poisoned = {
            chest(tmp_path / "in", number, Rows=rows).path: rows
            for number, rows in enumerate((poison.CRASHES, poison.HANGS))
        }
        good = [chest(tmp_path / "in", number).path for number in range(3, 6)]
        assert dcmtk.storescu(site.dicom_port, [*poisoned, *good]).acknowledged == 5
        ends = [
            f"stopped after 3 attempts: it did not end within {LIMIT} s, so its process was stopped",
            "stopped after 3 attempts: its process died: signal 11 (SIGSEGV)",
        ]
        site.wait_ledger(lambda now: now["done"] == 3 and now["failed"] == 2, 150, "each has its end")
        # recovery may end an image before Celery's pool, which looks every five seconds, has seen how its process died
        site.wait_ledger(
            lambda now: sorted(entry["reason"] for entry in now["unfinished"]) == ends, 60, "each has its reason"
        )
        assert site["work"].pid == worker
        assert site["work"].running
        # who comes next is read as if nothing had been
        assert dcmtk.storescu(site.dicom_port, [chest(tmp_path / "in", 6).path]).acknowledged == 1
        site.wait_ledger(lambda now: now["done"] == 4, 60, "the next image is read")


def test_a_decoder_that_crashes_or_hangs_costs_one_picture_and_never_the_pages(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        words = [sys.executable, "-c", _WEB, *site.command("web")[1:]]
        site.processes["web"] = Process("web", words, site.logs / "web.log", Path.cwd(), site.environment())
        site.start("listen", "web")
        web = site["web"].pid
        assert not site["web"].children(), "nothing is started before somebody looks"
        crashes, hangs = (
            chest(tmp_path / "in", number, Rows=rows).path for number, rows in enumerate((poison.CRASHES, poison.HANGS))
        )
        good = [chest(tmp_path / "in", number).path for number in range(3, 6)]
        assert dcmtk.storescu(site.dicom_port, [crashes, hangs, *good]).acknowledged == 5
        site.wait_ledger(lambda now: now["received"] == 5, 60, "all are there")
        digests = _digests(site)
        assert len(digests) == 5
        with ThreadPoolExecutor(10) as browsers:
            asked = {
                (digest, size): browsers.submit(_picture, site, digest, size)
                for size in ("thumbnail", "view")
                for digest in digests
            }
            answers = {key: answer.result() for key, answer in asked.items()}
        says = {f"{word} {text}" for (word, text) in answers.values() if word != "200"}
        assert says == {
            "422 the image cannot be shown: drawing it failed: its process died: signal 11 (SIGSEGV)",
            f"422 the image cannot be shown: drawing it failed: it did not end within {LIMIT} s and was stopped",
        }
        assert sum(word == "200" for word, _text in answers.values()) == 6
        drawing = {each.pid for each in site["web"].children()}
        for digest in digests:
            assert _picture(site, digest, "thumbnail") == answers[digest, "thumbnail"]
        assert {each.pid for each in site["web"].children()} == drawing, "poison is not tried by every page anew"
        assert site["web"].pid == web
        assert site["web"].running
        left = site["web"].children()
        site["web"].kill_alone()
        wait_until(lambda: not any(each.is_running() for each in left), 60, "no process is left behind")
        site.assert_logs_clean([])


def _digests(site: Site) -> list[str]:
    """The images that the pages show."""
    with urllib.request.urlopen(f"http://127.0.0.1:{site.web_port}/", timeout=60) as answer:
        return sorted(set(re.findall(r"/images/([0-9a-f]{64})/thumbnail", answer.read().decode())))


def _picture(site: Site, digest: str, size: str) -> tuple[str, str]:
    """Status and text of an answer; of a picture, its digest."""
    address = f"http://127.0.0.1:{site.web_port}/images/{digest}/{size}.jpg"
    try:
        with urllib.request.urlopen(address, timeout=120) as answer:
            return str(answer.status), hashlib.sha256(answer.read()).hexdigest()
    except urllib.error.HTTPError as error:
        return str(error.code), error.read().decode()
