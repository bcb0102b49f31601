"""The pages show what the database holds, in reading order, flags before numbers, and run nothing that came by wire."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread
from sqlalchemy import delete, select, update

from db.tables.analyses import Analysis, LogitMaps
from db.tables.studies import Location
from dicom_io.header.instance_header import read_header
from dicom_io.network.status_codes import Status
from dicom_io.pixels.grayscale import read_grayscale
from dicom_io.receive.listener import Received
from model.bundle.bundle import builtin_bundles_folder, load_bundle
from model.explain.gradcam import GradCamMaps
from tests.peers.radiographs import Radiograph, chest, described, sample
from worker.analysis.runner import Analyst
from worker.config.destinations import DicomDestination
from worker.config.settings import load_settings
from worker.installation import Site
from worker.intake.intake import Intake
from worker.model_registry import bundles
from worker.retention.erasure import forget
from worker.web.app import make_web
from worker.web.rendering import FOLDER

HOSTILE = "<script>alert(1)</script>^\"onload='x'"
PAGES = ("/", "/ledger", "/system", "/docs")


@dataclass(frozen=True)
class Reading:
    """A site with studies of every kind, and a browser's view of it."""

    site: Site
    client: TestClient
    studies: dict[str, Radiograph]
    analyses: dict[str, int]

    def page(self, name: str) -> str:
        answer = self.client.get(f"/studies/{self.studies[name].study_instance_uid}")
        assert answer.status_code == 200
        return answer.text

    def row(self, name: str) -> str:
        uid = self.studies[name].study_instance_uid
        found = re.search(rf'<tr data-key="{re.escape(uid)}".*?</tr>', self.client.get("/").text, re.DOTALL)
        assert found, f"{name} is not on the worklist"
        return found.group()

    def receive(self, path: Path) -> int | None:
        queued: list[int] = []
        data = path.read_bytes()
        received = Received(
            data=data,
            header=read_header(data),
            calling_ae="MODALITY",
            called_ae="CXRTRIAGE",
            address="127.0.0.1",
            association_id="1",
        )
        intake = Intake(self.site, lambda each: queued.append(each.id))
        assert intake.receive(received) == Status.SUCCESS
        return queued[0] if queued else None


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> Iterator[Reading]:
    folder = tmp_path_factory.mktemp("pages")
    settings = load_settings(home=folder / "home").model_copy(
        update={"destinations": (DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1),)}
    )
    site = Site(settings)
    bundles.activate(site, str(bundle_folder))
    images = {
        "hostile": chest(folder, 0, PatientName=HOSTILE),
        "child": chest(folder, 1, PatientAge="008Y", PatientBirthDate="20180102"),
        "refused": described(sample("RG3_UNCR")),
        "failed": _cut(chest(folder, 2)),
        "waiting": chest(folder, 3),
    }
    with TestClient(make_web(site)) as client:
        made = Reading(site, client, images, {})
        for name, image in images.items():
            if (analysis := made.receive(image.path)) is not None:
                made.analyses[name] = analysis
        analyst = Analyst(settings, site.database, site.store)
        ended = {name: analyst.analyse(made.analyses[name]) for name in ("hostile", "child", "failed")}
        assert ended == {"hostile": "done", "child": "done", "failed": "failed"}
        yield made


def _cut(image: Radiograph) -> Radiograph:
    dataset = dcmread(image.path)
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    dataset.save_as(image.path)
    return image


def test_rows_stand_in_reading_order(reading: Reading) -> None:
    shown = re.findall(r'<tr data-key="([^"]+)"', reading.client.get("/").text)
    items = reading.client.get("/api/worklist").json()["items"]
    assert shown == [item["study_instance_uid"] for item in items]
    assert len(shown) == len(reading.studies)


def test_worklist_names_the_active_model_and_a_study_the_one_that_read_it(reading: Reading) -> None:
    assert "<span>active model demonstration</span>" in reading.client.get("/").text
    assert "<strong>demonstration</strong>" in reading.page("hostile")


def test_flags_come_before_numbers_and_outside_the_domain_first_of_all(reading: Reading) -> None:
    for shown in (reading.row("child"), reading.page("child")):
        result = shown[shown.index("outside training domain") :]
        assert "age 8 outside" in result
        number = re.search(r'class="numbers">', shown)
        assert number
        assert shown.index("outside training domain") < shown.index("age 8 outside") < number.start()
    assert "MEDIUM" in reading.row("child"), "it raises no priority"


def test_findings_stand_beside_their_thresholds_with_a_word_or_sign_for_what_colour_says(reading: Reading) -> None:
    items = {item["study_instance_uid"]: item for item in reading.client.get("/api/worklist").json()["items"]}
    findings = items[reading.studies["hostile"].study_instance_uid]["findings"]
    page = reading.page("hostile")
    shown = [html.unescape(each) for each in re.findall(r'class="numbers">([^<]*)<', page)]
    assert len(shown) == len(findings)
    for text, finding in zip(shown, findings, strict=True):
        probability, sign, threshold = text.split()
        assert float(probability) == pytest.approx(finding["probability"], abs=0.0051)
        assert float(threshold) == pytest.approx(finding["threshold"], abs=0.0051)
        assert sign == ("≥" if finding["positive"] else "<")


def test_what_was_not_read_says_why_on_the_worklist_on_its_page_and_in_the_ledger(reading: Reading) -> None:
    ledger = reading.client.get("/ledger").text
    for name, why in (("refused", "BodyPartExamined is EXTREMITY: not a chest"), ("failed", "PixelData holds")):
        assert why in html.unescape(reading.row(name))
        assert why in html.unescape(reading.page(name))
        assert why in html.unescape(ledger)
    assert ">waiting<" in reading.row("waiting")


def test_a_patients_name_is_shown_as_text_whatever_it_holds(reading: Reading) -> None:
    for page in (reading.client.get("/").text, reading.page("hostile")):
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "onload='x'" not in page


def test_pages_ask_no_foreign_host_and_hold_neither_script_nor_style_of_their_own(reading: Reading) -> None:
    pages = {path: reading.client.get(path).text for path in PAGES}
    pages |= {name: reading.page(name) for name in reading.studies}
    for name, page in pages.items():
        assert not re.search(r'(?:src|href|action|srcset)\s*=\s*"(?:[a-z]+:|//)', page), name
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle\s*=|\son[a-z]+\s*=\s*\"", page), name
    for path in (FOLDER / "static").iterdir():
        content = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|@import|url\(|eval\(|innerHTML\s*\+=", content), path.name


def test_no_address_in_a_page_carries_anything_of_a_patient(reading: Reading) -> None:
    for name, image in reading.studies.items():
        for page in (reading.client.get("/").text, reading.page(name)):
            for address in re.findall(r'(?:src|href|data-overlay)="([^"]*)"', page):
                assert not [secret for secret in image.secrets if secret in address]


@pytest.mark.parametrize("path", [*PAGES, "/healthz", "/api/worklist", "/static/style.css", "/images/scale.png", "/no"])
def test_every_answer_carries_the_policy(reading: Reading, path: str) -> None:
    headers = reading.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_pages_are_stored_nowhere_and_not_sent_again_until_they_changed(reading: Reading) -> None:
    for path in ("/", "/ledger", f"/studies/{reading.studies['child'].study_instance_uid}"):
        first = reading.client.get(path)
        assert first.headers["cache-control"] == "no-store"
        again = reading.client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    before = reading.client.get("/").headers["etag"]
    with reading.site.database.write() as session:
        session.execute(
            update(Analysis).where(Analysis.id == reading.analyses["failed"]).values(reason="PixelData holds no 2")
        )
    answer = reading.client.get("/", headers={"If-None-Match": before})
    assert answer.status_code == 200
    assert "PixelData holds no 2" in answer.text


def test_unknown_study_is_not_found_and_says_so(reading: Reading) -> None:
    answer = reading.client.get("/studies/1.2.3")
    assert answer.status_code == 404
    assert "no study with this UID" in answer.text
    assert "AI result: not for diagnosis" in answer.text


def test_every_page_says_that_it_is_not_for_diagnosis(reading: Reading) -> None:
    for page in [reading.client.get(path).text for path in PAGES] + [reading.page(name) for name in reading.studies]:
        assert "AI result: not for diagnosis" in page


def test_study_page_names_model_engine_deliveries_and_neighbours(reading: Reading) -> None:
    page = reading.page("hostile")
    with reading.site.database.read() as session:
        analysis = session.get_one(Analysis, reading.analyses["hostile"])
    assert analysis.model_digest in page
    assert f"{analysis.engine} {analysis.precision}" in page
    assert "heatmap" in page
    assert "pacs" in page
    order = [item["study_instance_uid"] for item in reading.client.get("/api/worklist").json()["items"]]
    here = order.index(reading.studies["hostile"].study_instance_uid)
    links = dict(re.findall(r'rel="(prev|next)" href="/studies/([^"]+)"', page))
    assert links.get("prev") == (order[here - 1] if here else None)
    assert links.get("next") == (order[here + 1] if here + 1 < len(order) else None)


def test_study_of_several_images_shows_each_with_its_own_decision_and_the_flags_of_all(
    reading: Reading, tmp_path: Path
) -> None:
    uid = reading.studies["child"].study_instance_uid
    lateral = chest(tmp_path, 1, study_instance_uid=uid, ViewPosition="LATERAL", PatientID="HIS-other")
    assert reading.receive(lateral.path) is None
    page = reading.page("child")
    assert page.count('href="?image=') == 2 + page.count("data-overlay=")
    assert "Findings of image 1" in page
    assert "of image 1, " in page, "whose heatmap it is"
    assert "image 2: patient differs from the study&#39;s first image: ID" in page
    second = reading.client.get(f"/studies/{uid}?image=1").text
    assert "refused" in second
    assert "ViewPosition is LATERAL" in second
    assert "switcher" not in second
    assert "2 images" in reading.row("child")
    assert reading.client.get(f"/studies/{uid}?image=99&label=-1").status_code == 200


def test_image_under_the_uid_of_anothers_is_found_from_the_study_it_names_and_not_shown_there(
    reading: Reading, tmp_path: Path
) -> None:
    first = reading.studies["waiting"]
    misfiled = chest(tmp_path, 3, study_instance_uid="1.2.3.4.5", PatientID="HIS-77", PatientName="Other^Olga")
    image = dcmread(misfiled.path)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = first.sop_instance_uid
    image.save_as(misfiled.path)
    assert reading.receive(misfiled.path) is None
    found = re.search(r'<tr data-key="1\.2\.3\.4\.5".*?</tr>', reading.client.get("/").text, re.DOTALL)
    assert found
    row, page = found.group(), reading.client.get("/studies/1.2.3.4.5").text
    assert "HIS-77" in row
    assert "under the UID of another study&#39;s image" in row
    assert f'<a href="/studies/{first.study_instance_uid}">another study</a>' in page
    assert "No image of this study is stored here." in page
    for shown in (row, page):
        assert not re.search(r"/images/[0-9a-f]{64}", shown), "neither patient's image is shown as the other's"
    assert '<a href="/studies/1.2.3.4.5">1.2.3.4.5</a> · stored, not analysed' in reading.page("waiting")
    forget(
        reading.site.database,
        reading.site.store,
        reading.site.clock,
        study_instance_uid="1.2.3.4.5",
        patient_id=None,
        reason="asked",
    )
    assert "Another file" not in reading.page("waiting")
    assert reading.client.get("/studies/1.2.3.4.5").status_code == 404


def test_ledger_page_visibly_adds_up(reading: Reading) -> None:
    page = reading.client.get("/ledger").text
    received, *parts = [int(number) for number in re.findall(r'<div class="term"><b>(\d+)</b>', page)]
    assert received == sum(parts) == reading.client.get("/api/ledger").json()["received"]
    assert "adds up" in page
    assert "does not add up" not in page


def test_worklist_is_paged_and_a_page_beyond_the_last_leads_back(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.web.worklist_pages.STUDIES_A_PAGE", 2)
    pages = [re.findall(r'<tr data-key="([^"]+)"', reading.client.get(f"/?page={page}").text) for page in (1, 2, 3)]
    assert [len(page) for page in pages] == [2, 2, 1]
    order = [item["study_instance_uid"] for item in reading.client.get("/api/worklist").json()["items"]]
    assert [uid for page in pages for uid in page] == order
    beyond = reading.client.get("/?page=9", follow_redirects=False)
    assert (beyond.status_code, beyond.headers["location"]) == (303, "/?page=3")


def _picture(reading: Reading, path: str) -> np.ndarray:
    answer = reading.client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"].startswith("private")
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return np.asarray(picture)


def _addresses(reading: Reading, name: str) -> tuple[str, list[str]]:
    page = reading.page(name)
    gray = re.search(r'class="gray" src="([^"]+)"', page)
    assert gray
    return gray.group(1), re.findall(r'data-overlay="([^"]+)"', page)


def test_picture_is_the_grayscale_image_at_its_own_size(reading: Reading) -> None:
    gray, _ = _addresses(reading, "hostile")
    shown = _picture(reading, gray)
    image = read_grayscale(reading.studies["hostile"].path).image
    assert shown.shape == image.shape, "1024 x 960 is smaller than the view: never enlarged"
    assert np.abs(shown / 255 - image).max() < 0.05
    assert max(_picture(reading, gray.replace("view", "thumbnail")).shape) == 192


def test_overlay_is_transparent_wherever_nothing_speaks_for_its_label_and_lies_as_the_image_lies(
    reading: Reading,
) -> None:
    gray, overlays = _addresses(reading, "hostile")
    shape = _picture(reading, gray).shape
    analysis_id = reading.analyses["hostile"]
    with reading.site.database.read() as session:
        stored = session.scalars(select(LogitMaps.data).where(LogitMaps.analysis_id == analysis_id)).one()
    labels, height, width = GradCamMaps.from_bytes(stored).values.shape
    contributions = np.full((labels, height, width), -0.005)
    contributions[0, 0, 0] = (
        4 * load_bundle(builtin_bundles_folder() / "demonstration").heatmap.of("Pneumonia").full / (height * width)
    )  # the cell at the top left alone
    with reading.site.database.write() as session:
        data = GradCamMaps.from_contributions(contributions).to_bytes()
        session.execute(update(LogitMaps).where(LogitMaps.analysis_id == analysis_id).values(data=data))
    try:
        first, second = (_picture(reading, address) for address in overlays[:2])
        for overlay in (first, second):
            assert overlay.shape == (*shape, 4)
        assert not second.any(), "nothing speaks for it: no alpha, and no colour either"
        alpha = first[..., 3]
        rows, columns = np.nonzero(alpha > 0.9 * alpha.max())
        assert rows.mean() < shape[0] / height
        assert columns.mean() < shape[1] / width
        assert not alpha[shape[0] // 3 :].any()
        assert not alpha[:, shape[1] // 3 :].any()
    finally:
        with reading.site.database.write() as session:
            session.execute(update(LogitMaps).where(LogitMaps.analysis_id == analysis_id).values(data=stored))


def test_overlay_is_drawn_as_chosen_and_the_page_states_the_scale_of_each_label(reading: Reading) -> None:
    page = reading.client.get(f"/studies/{reading.studies['hostile'].study_instance_uid}?style=contours").text
    assert 'src="/images/' in page and "-view.png?style=contours" in page
    assert '<option value="contours" selected>' in page
    scales = load_bundle(builtin_bundles_folder() / "demonstration").heatmap
    for label, scale in scales.labels.items():
        assert f'data-floor="{scale.floor:g}" data-highest="{scale.full:g} logits or more"' in page
        assert f"logit of {label}, on one scale for all images, {scales.origin(label)}" in page
    _, overlays = _addresses(reading, "hostile")
    assert {address.partition("?")[2] for address in overlays} == {"style=both"}
    plain = overlays[0].partition("?")[0]
    versions = {
        style: reading.client.get(f"{plain}?style={style}").headers["etag"] for style in ("filled", "contours", "both")
    }
    assert len(set(versions.values())) == 3
    assert reading.client.get(f"{plain}?style=dotted").status_code == 422


def test_overlay_of_one_image_is_not_drawn_over_another(reading: Reading) -> None:
    mine, overlays = _addresses(reading, "hostile")
    other, _ = _addresses(reading, "child")
    digest, other_digest = mine.split("/")[2], other.split("/")[2]
    assert reading.client.get(overlays[0].replace(digest, other_digest)).status_code == 404
    assert reading.client.get(overlays[0].replace("/0-view", "/99-view")).status_code == 404
    assert reading.client.get(f"/images/{'0' * 64}/view.jpg").status_code == 404
    assert reading.client.get("/images/..%2f..%2fetc/view.jpg").status_code in (404, 422)


def test_picture_that_cannot_be_drawn_says_why(reading: Reading) -> None:
    gray, _ = _addresses(reading, "failed")
    answer = reading.client.get(gray)
    assert answer.status_code == 422
    assert "PixelData holds" in answer.text


def test_what_was_removed_is_not_shown_from_a_cache(reading: Reading) -> None:
    gray, _ = _addresses(reading, "waiting")
    assert reading.client.get(gray).status_code == 200
    with reading.site.database.write() as session:
        session.execute(delete(Location).where(Location.sha256 == gray.split("/")[2]))
    assert reading.client.get(gray).status_code == 404
