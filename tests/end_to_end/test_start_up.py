"""Starting: the demonstration a newcomer sees, and one clear line for everything that keeps it from starting."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.peers import dcmtk
from tests.peers.processes import wait_until
from tests.peers.radiographs import chest
from tests.peers.site import TRACEBACK, Ran, Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]


@pytest.fixture
def fresh(tmp_path: Path) -> Site:
    """An installation that was never started; its broker is the embedded one."""
    site = Site(tmp_path / "site")
    text = site.configuration.read_text(encoding="utf-8")
    site.configuration.write_text(re.sub(r'\[broker\]\nurl = ".*"\n', "", text), encoding="utf-8")
    return site


def one_clear_line(done: Ran, *words: str) -> None:
    """It failed with one line on standard error that holds every one of `words`."""
    assert done.exit_code == 1 or done.exit_code == 2, done.output
    assert TRACEBACK not in done.output, done.output
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.output
    for word in words:
        assert word in lines[0], lines[0]


def test_the_demonstration_shows_a_reading_a_refusal_and_a_picture_and_stops_on_ctrl_c(fresh: Site) -> None:
    process = fresh["up"]
    process.arguments.append("--demonstrate")
    process.start()
    try:
        wait_until(
            lambda: not process.running or "Ctrl-C" in process.log_text(), 120, "the demonstration is over", every=0.2
        )
        shown = process.log_text()
        assert process.running, shown
        assert "EXTREMITY" in shown
        assert "age unknown" in shown
        assert "not for diagnosis" in shown
        lines = shown.splitlines()
        first_flag = next(number for number, line in enumerate(lines) if "age unknown" in line)
        first_number = next(number for number, line in enumerate(lines) if re.search(r"\b[01]\.\d\d", line))
        assert first_flag <= first_number, "the flags come before the numbers"
        pictures = [each for each in re.findall(r"\S+\.(?:png|dcm)", shown) if (fresh.folder / each).is_file()]
        assert pictures, "no path of a heatmap that is there"
        ledger = fresh.ledger()
        assert (ledger["received"], ledger["done"], ledger["not_applicable"]) == (2, 1, 1)
        family = process.children()
        assert dcmtk.echoscu(fresh.dicom_port).exit_code == 0

        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everything in the group gets it
        wait_until(lambda: not process.running, 60, "it stops on Ctrl-C")
        assert process.stop(60) in (0, 130)
        assert TRACEBACK not in process.log_text(), process.log_tail(60)
        _, alive = psutil.wait_procs(family, timeout=60)
        assert alive == [], "left running"
        assert dcmtk.echoscu(fresh.dicom_port).exit_code != 0
    finally:
        process.kill()


def test_a_second_demonstration_in_the_same_home_tells_the_same(fresh: Site) -> None:
    process = fresh["up"]
    process.arguments.append("--demonstrate")
    for _ in range(2):
        process.start()
        try:
            process.wait_ready(lambda: "Ctrl-C" in process.log_since_start(), 120)
            assert "EXTREMITY" in process.log_since_start()
        finally:
            process.stop(25)
    ledger = fresh.ledger()
    assert (ledger["received"], ledger["done"], ledger["not_applicable"], ledger["failed"]) == (2, 1, 1, 0)


@pytest.mark.parametrize("command", ["up", "listen"])
def test_a_dicom_port_in_use_is_one_line_with_the_port(fresh: Site, command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", fresh.dicom_port))
        taken.listen()
        one_clear_line(fresh.run(command, seconds=60), str(fresh.dicom_port), "in use")


@pytest.mark.parametrize("command", ["up", "web"])
def test_a_web_port_in_use_is_one_line_with_the_port(fresh: Site, command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", fresh.web_port))
        taken.listen()
        one_clear_line(fresh.run(command, seconds=60), str(fresh.web_port), "in use")


@pytest.mark.parametrize("command", ["up", "listen", "work", "deliver", "schedule", "worklist"])
def test_a_home_that_cannot_be_written_is_one_line_with_its_name(fresh: Site, command: str) -> None:
    fresh.home.write_text("a file stands where the folder should be")
    one_clear_line(fresh.run(command, seconds=60), str(fresh.home))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[dicom]\nprot = 104\n", ("dicom.prot", "port")),
        ('[dicom]\nport = "a hundred"\n', ("dicom.port", "a hundred")),
        ('[dicom]\nae_title = "LONGER THAN SIXTEEN"\n', ("dicom.ae_title", "LONGER THAN SIXTEEN", "16")),
        ("[dicmo]\n", ("dicmo", "dicom")),
        ("[dicom\n", ("site.toml",)),
    ],
    ids=["wrong key", "wrong type", "wrong value", "wrong section", "no TOML"],
)
def test_a_wrong_setting_is_one_line_with_its_name_its_value_and_what_is_allowed(
    fresh: Site, line: str, words: tuple[str, ...]
) -> None:
    fresh.configuration.write_text(line, encoding="utf-8")
    one_clear_line(fresh.run("listen", seconds=60), *words)


def test_an_unknown_command_or_option_is_wrong_usage(fresh: Site) -> None:
    assert fresh.run("lisent").exit_code == 2
    assert fresh.run("listen", "--prot").exit_code == 2


def test_a_model_that_is_not_there_is_one_line_with_those_that_are(fresh: Site) -> None:
    one_clear_line(fresh.run("model", "activate", "nonesuch"), "nonesuch", "demonstration")


@pytest.mark.parametrize(
    "command",
    [
        ["worklist"],
        ["status"],
        ["ledger"],
        ["gate", "apply"],
        ["read-anyway", "1.2.3", "--by", "A Radiologist", "--reason", "urgent"],
        ["redeliver", "pacs"],
        ["forget", "--study", "1.2.3", "--yes", "--reason", "asked for"],
        ["model", "deactivate"],
    ],
    ids=" ".join,
)
def test_who_asks_of_a_home_that_is_none_is_told_and_none_is_made(tmp_path: Path, command: list[str]) -> None:
    home = tmp_path / "mistyped"
    words = [sys.executable, "-m", "worker", *command, "--home", str(home)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"cxr-triage: there is no installation in {home}: ")
    assert not home.exists()


_WITHOUT_CODECS = """
import sys
sys.modules["imagecodecs"] = None  # an import of it fails, as where it is not installed
from worker.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["work", "up"])
def test_missing_codecs_are_named_at_start_and_it_starts_all_the_same(fresh: Site, name: str) -> None:
    process = fresh[name]
    process.arguments[:1] = [sys.executable, "-c", _WITHOUT_CODECS]
    process.start()
    try:
        begun = "worker child ready" if name == "work" else "Ctrl-C"
        wait_until(lambda: not process.running or begun in process.log_text(), 60, "it has started", every=0.2)
        assert process.running, process.log_text()
        said = " ".join(process.log_text().split())  # a terminal's lines are broken anywhere
        for codec in ("JPEG Lossless SV1", "JPEG-LS Near-lossless", "HTJ2K", "JPEG Extended 12 bit"):
            assert f"{codec}: this machine has no decoder for" in said, said
    finally:
        process.stop()


def test_without_an_active_model_studies_are_received_and_wait_and_are_read_once_there_is_one(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        for name in ("listen", "deliver", "schedule"):
            site[name].start()
        site["work"].start()
        site.wait_ready("listen")
        radiograph = chest(tmp_path / "in", 1)
        assert dcmtk.storescu(site.dicom_port, [radiograph.path]).statuses == (0,)
        ledger = site.ledger()
        assert (ledger["received"], ledger["pending"], ledger["done"]) == (1, 1, 0)
        (item,) = site.worklist()
        assert item["state"] == "pending"
        assert "no model" in item["reason"]
        for words in (["status"], ["worklist"]):
            assert "no model" in site.run(*words).output.replace("\n", " "), words
        site.activate_model()
        assert site.wait_settled(1)["done"] == 1
