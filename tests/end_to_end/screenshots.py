"""Makes the pictures of `docs/screenshots` anew: ``python -m tests.end_to_end.screenshots`` (needs Chromium).

A whole installation receives variants of the chest and the extremity of pydicom-data, under invented names, as a PACS
would send them, and its pages are photographed, 1280 pixels wide.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.end_to_end.test_pages import OPTIONS
from tests.peers.programs import free_port, require_peer
from tests.peers.radiographs import Radiograph, chest, described, sample
from tests.peers.site import Site

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
# name, age, share of each border that is cut off (the model finds more the closer it looks)
PATIENTS = (
    ("Novák^Jan", 85, 0.12),
    ("Yamada^Tarou", 62, 0.18),
    ("Petrova^Irina", 58, 0.0),
    ("Nguyen^Thi Lan", 79, 0.06),
    ("Okafor^Chidi", 75, 0.0),
    ("Rossi^Giulia", 8, 0.12),
    ("Lindqvist^Maja", 43, 0.0),
)


def main() -> None:
    """Write every picture."""
    require_peer("chromium")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        port = free_port()
        pacs = subprocess.Popen(
            [str(Path(sys.executable).parent / "storescp"), str(port), "-q", "-od", str(place / "pacs")]
        )
        more = f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
        try:
            with Site(place / "site", more=more) as site:
                photograph(site, list(radiographs(place / "sent")))
        finally:
            pacs.terminate()


def radiographs(folder: Path) -> Iterator[Radiograph]:
    """What is sent, in this order."""
    for number, (name, age, cut) in enumerate(PATIENTS):
        yield _chest(folder, number, cut, PatientName=name, **_age(age))
    study = generate_uid(prefix=None)
    for number, cut, view in ((20, 0.12, "PA"), (21, 0.0, "PA"), (22, 0.0, "LL")):
        identity = {"PatientName": "Eriksen^Aud", "PatientID": "HIS-70020", "AccessionNumber": "ACC000020", **_age(46)}
        yield _chest(folder, number, cut, study, ViewPosition=view, **identity)
    yield _chest(folder, 31, 0.0, PatientName="Tremblay^Élodie", PixelData=b"\0" * 9000, **_age(73))
    hand = dcmread(sample("RG3_UNCR"))
    hand.PatientName, hand.PatientID, hand.AccessionNumber = "Murphy^Liam", "HIS-70030", "ACC000030"
    hand.save_as(folder / "hand.dcm")
    yield described(folder / "hand.dcm")


def _age(years: int) -> dict[str, str]:
    return {"PatientAge": f"{years:03}Y", "PatientBirthDate": f"{2026 - years}0301", "StudyDate": "20261120"}


def _chest(folder: Path, number: int, cut: float, study: str | None = None, **changes: object) -> Radiograph:
    pixels = dcmread(sample("RG1_UNCR")).pixel_array
    rows, columns = (round(cut * side) for side in pixels.shape)
    kept = np.ascontiguousarray(pixels[rows : pixels.shape[0] - rows, columns : pixels.shape[1] - columns])
    image = {"Rows": kept.shape[0], "Columns": kept.shape[1], "PixelData": kept.tobytes(), **changes}
    return chest(folder, number, study_instance_uid=study, SpecificCharacterSet="ISO_IR 192", **image)


def photograph(site: Site, sent: list[Radiograph]) -> None:
    """Send everything, wait until nothing is open, and photograph the pages."""
    site.start()
    for each in sent:
        done = site.run("send", str(each.path))
        assert done.exit_code == 0, done.output
    (site.folder / "broken.dcm").write_bytes(sent[0].path.read_bytes()[:5000])
    site.run("send", str(site.folder / "broken.dcm"))
    site.wait_settled(len(sent), seconds=300)
    studies = {each.patient_name.split("^")[0]: each.study_instance_uid for each in sent}
    pages = {
        "worklist": ("/", 800),
        "study": (f"/studies/{studies['Yamada']}", 800),
        "study-flagged": (f"/studies/{studies['Rossi']}", 800),
        "study-several-images": (f"/studies/{studies['Eriksen']}", 800),
        "ledger": ("/ledger", 460),
    }
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=require_peer("chromium"), args=OPTIONS)
        page = chromium.new_page()
        for name, (path, height) in pages.items():
            page.set_viewport_size({"width": 1280, "height": height})
            _photograph(page, f"http://127.0.0.1:{site.web_port}{path}", FOLDER / f"{name}.png")
        chromium.close()


def _photograph(page: Page, address: str, target: Path) -> None:
    page.goto(address)
    page.wait_for_selector("#live[data-state=live]")
    page.wait_for_function("() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    page.screenshot(path=target)
    print(target)


if __name__ == "__main__":
    main()
