"""Every command of the README works as it is written there, in the order in which it is written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from dicom_io.header.facts import read_facts
from dicom_io.pixels.grayscale import read_grayscale
from tests.model.networks import classifier
from tests.peers.orthanc import Orthanc
from tests.peers.processes import port_answers, wait_until
from tests.peers.radiographs import sample
from tests.peers.site import Site

README = Path(__file__).resolve().parents[2] / "README.md"
RUNNING = ("up", "listen", "work", "deliver", "schedule", "web")
pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]


def commands() -> list[str]:
    """The lines of the README's shell blocks that call our program, comments left out."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("cxr-triage")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Orthanc]]:
    folder = tmp_path_factory.mktemp("readme")
    with Orthanc(folder / "orthanc") as pacs:
        site = Site(folder / "site", pacs=pacs, more=f'[storage]\nhome = "{folder / "site" / "home"}"\n')
        with site:
            site.start("listen")
            prepare(site.folder)
            yield site, pacs


def prepare(folder: Path) -> None:
    """Lay out the files that the README's examples name."""
    film = sample("RG1_UNCR")
    shutil.copy(film, folder / "FILE")
    shutil.copy(film, folder / "film.dcm")
    (folder / "folder").mkdir()
    shutil.copy(sample("RG3_UNCR"), folder / "folder" / "hand.dcm")
    gray = (cv2.resize(read_grayscale(film).image, (256, 256), interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)
    cv2.imwrite(str(folder / "film.png"), gray)
    classifier(2, "softmax", size=64).save(folder / "network.h5")
    chance = np.random.default_rng(1)
    for label in ("NORMAL", "PNEUMONIA"):
        (folder / "DATA" / label).mkdir(parents=True)
        for number in range(20):
            noisy = np.clip(gray + chance.normal(0, 12, gray.shape), 0, 255).astype(np.uint8)
            if label == "PNEUMONIA":
                noisy[120:180, 60:120] = 255
            cv2.imwrite(str(folder / "DATA" / label / f"person{number}{label[0]}_1.png"), noisy)


def arguments(line: str) -> list[str]:
    """The command as a person fills it in: one film for FILE..., a study's UID, and a question answered."""
    words = shlex.split(
        line.replace("FILE...", "FILE").replace("UID", read_facts(sample("RG1_UNCR")).study_instance_uid)
    )
    return [*words, *{"forget": ["--yes"]}.get(words[1], [])]


def run(site: Site, words: list[str], seconds: float = 300) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / words[0]
    environment = {**site.environment(), "CXR_TRIAGE_CONFIG": str(site.configuration)}
    return subprocess.run(
        [str(program), *words[1:]],
        cwd=site.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.train
@pytest.mark.timeout(900)
def test_every_command_that_ends_succeeds_in_the_order_of_the_page(place: tuple[Site, Orthanc]) -> None:
    site, _pacs = place
    ending = [line for line in commands() if line.split()[1] not in RUNNING]
    assert len(ending) > 8
    failed = {}
    for line in ending:
        done = run(site, arguments(line))
        if done.returncode != 0 or "Traceback" in done.stderr:
            failed[line] = f"exit {done.returncode}: {(done.stdout + done.stderr)[-1500:]}"
    assert failed == {}


@pytest.mark.parametrize("name", RUNNING)
def test_every_process_starts_and_stops_on_request(tmp_path: Path, orthanc: Orthanc, name: str) -> None:
    assert f"cxr-triage {name}" in commands()
    with Site(
        tmp_path / "site", pacs=orthanc, more=f'[storage]\nhome = "{tmp_path / "home"}"\n', home=tmp_path / "home"
    ) as site:
        site.activate_model()
        ready = (lambda: port_answers(site.dicom_port)) if name == "up" else None
        process = site[name]
        process.start()
        if ready is not None:
            wait_until(ready, 60, "up listens")
        else:
            site.wait_ready(name)
        os.kill(process.pid, signal.SIGTERM)
        wait_until(lambda: not process.running, 60, f"{name} ends")
        assert "Traceback" not in process.log_text()
        # uvicorn shuts down in order and then ends by the signal it got
        assert process.stop() in ((0, -signal.SIGTERM) if name == "web" else (0,))


@pytest.mark.train
def test_python_lines_of_the_page_work(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    classifier(2, size=224).save(tmp_path / "models" / "densenet121_chestxray.h5")
    cv2.imwrite(str(tmp_path / "path_to_xray.jpg"), np.full((300, 400), 90, np.uint8))
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(README.parent)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_configuration_of_the_page_is_accepted(tmp_path: Path) -> None:
    from worker.config.settings import load_settings

    blocks = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "page.toml").write_text(block, encoding="utf-8")
        settings = load_settings(tmp_path / "page.toml", tmp_path)
        assert settings.destinations or settings.gate.rules, "a block that sets nothing"
