"""The pages in a real browser, on a real installation: they load, keep themselves true, and can be worked with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.peers.programs import absent, require_peer
from tests.peers.radiographs import Radiograph, chest
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


@dataclass
class Browser:
    """One page of Chromium, and everything it complained of."""

    page: Any
    address: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)

    def _asked(self, request: Any) -> None:  # noqa: ANN401 - a type of the browser's driver
        if not request.url.startswith(self.address):
            self.foreign.append(request.url)

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)
        self.page.wait_for_selector("#live[data-state=live]")

    def is_as_wide_as_its_window(self) -> None:
        """Nothing has to be scrolled to the side."""
        parts = "[document.documentElement, ...document.querySelectorAll('main, .facts')]"
        wide = f"() => {parts}.filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.className)"
        assert self.page.evaluate(wide) == []

    def pictures_are_drawn(self) -> None:
        drawn = "() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
        self.page.wait_for_function(drawn)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[tuple[Site, Browser]]:
    program = require_peer("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright: pip install playwright")
    with Site(tmp_path / "site") as site, sync_playwright() as driver:
        site.start("listen", "work", "web")
        chromium = driver.chromium.launch(executable_path=program, args=OPTIONS)
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(20_000)
        yield site, Browser(page, f"http://127.0.0.1:{site.web_port}")
        chromium.close()


def send(site: Site, image: Radiograph) -> None:
    done = site.run("send", str(image.path))
    assert done.exit_code == 0, done.output


def test_docs_list_every_route_and_ask_no_foreign_host(browser: tuple[Site, Browser]) -> None:
    _site, seen = browser
    seen.page.goto(f"{seen.address}/docs")
    seen.page.wait_for_selector(".opblock-summary-path")
    drawn = seen.page.eval_on_selector_all(".opblock-summary-path", "all => all.map(each => each.textContent)")
    assert "/api/worklist" in drawn
    assert set(drawn) == set(seen.page.evaluate("fetch('/openapi.json').then(each => each.json())")["paths"])
    assert (seen.complaints, seen.foreign) == ([], [])


def test_a_reader_sees_a_study_arrive_opens_it_and_fades_its_overlay(
    browser: tuple[Site, Browser], tmp_path: Path
) -> None:
    site, seen = browser
    page = seen.page
    seen.open("/")
    assert "No study has arrived yet" in page.inner_text("#rows")

    image = chest(tmp_path, 1, PatientName="Lindqvist^Maja")
    send(site, image)
    row = f'tr[data-key="{image.study_instance_uid}"]'
    page.wait_for_selector(f"{row} .state.done")  # arrived, was read, and nobody reloaded the page
    assert "Lindqvist, Maja" in page.inner_text(row)
    assert page.locator(f"{row} .numbers").count() >= 1
    seen.pictures_are_drawn()

    # under the hand nothing moves until it is asked for
    page.hover(row)
    page.keyboard.press("j")
    other = chest(tmp_path, 2, PatientName="Okafor^Chidi")
    sending = threading.Thread(target=send, args=(site, other))
    sending.start()
    for step in range(400):
        page.mouse.move(400, 300 + step % 2)
        if page.is_visible("#held"):
            break
        page.wait_for_timeout(50)
    sending.join()
    assert "1 new" in page.inner_text("#held")
    assert page.locator("#rows tr").count() == 1
    page.keyboard.press("r")
    assert page.locator("#rows tr").count() == 2
    assert page.evaluate("document.activeElement.getAttribute('href')") == f"/studies/{image.study_instance_uid}"

    page.keyboard.press("Enter")
    page.wait_for_selector("#overlay")
    seen.pictures_are_drawn()
    assert "Lindqvist, Maja" in page.inner_text("#identity")
    strength = "() => getComputedStyle(document.getElementById('overlay')).opacity"
    assert page.evaluate(strength) == "1"
    page.locator("#opacity").fill("40")
    assert page.evaluate(strength) == "0.4"
    page.keyboard.press("o")
    assert page.evaluate(strength) == "0"
    boxes = [page.locator(each).bounding_box() for each in (".gray", "#overlay")]
    assert boxes[0] == boxes[1], "the overlay lies upon the radiograph"

    for style in ("filled", "contours", "both"):
        page.keyboard.press("c")
        assert page.get_attribute("#overlay", "src").endswith(f"?style={style}")
        assert f"style={style}" in page.url
        seen.pictures_are_drawn()

    before = page.get_attribute("#overlay", "src")
    page.keyboard.press("2")
    assert page.get_attribute("#overlay", "src") != before
    page.reload()
    page.wait_for_selector(".switcher a[aria-current] >> nth=0")
    assert page.get_attribute(".switcher a[aria-current] kbd >> xpath=..", "href").endswith("label=1")

    # the longest that can stand beside a finding
    page.evaluate(
        "document.querySelectorAll('.switcher .numbers').forEach((each) => each.textContent = '0.40 not counted')"
    )
    page.evaluate("document.querySelector('.verdict .state').textContent = 'no AI result'")
    page.evaluate("document.querySelector('.verdict .priority').textContent = '◇ MEDIUM'")
    page.evaluate("document.querySelector('.verdict .waiting').textContent = '59 min'")
    seen.is_as_wide_as_its_window()
    for path in ("/", "/ledger", "/system"):
        seen.open(path)
        seen.is_as_wide_as_its_window()

    # letters typed into the search are no keys of the list
    page.goto(seen.address + "/earlier")
    page.fill("input[name=patient_id]", image.patient_id)
    page.keyboard.press("Enter")
    page.wait_for_selector(row)
    page.fill("input[name=accession_number]", "")
    page.keyboard.type("jk")
    assert page.input_value("input[name=accession_number]") == "jk"
    assert seen.complaints == []
    assert seen.foreign == []
    site.assert_logs_clean([image, other])
