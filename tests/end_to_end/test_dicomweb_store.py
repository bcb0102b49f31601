"""A PACS that stores over HTTP: Orthanc's DICOMweb plugin as the client, from the film to its reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.orthanc import Orthanc
from tests.peers.radiographs import chest
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]


def test_orthanc_stores_by_stow_rs_and_the_films_are_read(tmp_path: Path) -> None:
    films = [chest(tmp_path / "in", 1), chest(tmp_path / "in", 2, coding="jpeg2000")]
    with Site(tmp_path / "site") as site:
        site.start("web", "work", "schedule")
        with Orthanc(tmp_path / "orthanc", dicomweb={"triage": f"http://127.0.0.1:{site.web_port}/dicom-web/"}) as pacs:
            identifiers = [pacs.upload(film.path) for film in films]
            for _ in range(2):
                pacs.store_over_http("triage", identifiers)
        assert site.wait_settled(2)["done"] == 2
        assert {item["study_instance_uid"] for item in site.worklist()} == {each.study_instance_uid for each in films}
        assert site.ledger()["received"] == 2
        site.assert_logs_clean(films)
