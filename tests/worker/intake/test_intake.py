"""What a careless modality sends is taken all the same, on either database."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select

from db.tables.studies import Location, Study
from dicom_io.header.instance_header import read_header
from dicom_io.network.status_codes import Status
from dicom_io.receive.messages import Received
from worker.config.settings import DatabaseSettings
from worker.installation import Site
from worker.intake.intake import Intake
from worker.retention.erasure import forget
from worker.storage.store import Stored


def received(path: Path, **changes: object) -> Received:
    header = dcmread(path)
    for keyword, value in changes.items():
        setattr(header, keyword, value)
    buffer = io.BytesIO()
    header.save_as(buffer)
    data = buffer.getvalue()
    return Received(data, read_header(data), "MODALITY", "CXRTRIAGE", "127.0.0.1", "1")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def either(site: Site, request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").database()
        site = Site(site.settings.model_copy(update={"database": DatabaseSettings(url=url)}))
    yield site
    site.database.dispose()


def test_null_characters_inside_a_name_keep_no_image_out(either: Site, images: Path) -> None:
    image = received(images / "RG3_UNCR.dcm", PatientName="DOE\0^JOHN", PatientID="P\x001", ViewPosition="P\0A")
    assert Intake(either, lambda _id: None).receive(image) == Status.SUCCESS
    with either.database.read() as session:
        study = session.scalars(select(Study)).one()
    assert (study.patient_name, study.patient_id) == (
        "DOE\N{REPLACEMENT CHARACTER}^JOHN",
        "P\N{REPLACEMENT CHARACTER}1",
    )


def test_image_that_is_forgotten_in_the_moment_it_comes_again_is_stored(
    either: Site, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = received(images / "RG3_UNCR.dcm")
    intake = Intake(either, lambda _id: None)
    assert intake.receive(image) == Status.SUCCESS
    put = either.store.put

    def forgotten_right_after(data: bytes, suffix: str) -> Stored:
        stored = put(data, suffix)
        monkeypatch.undo()
        study = image.header.study_instance_uid
        assert forget(
            either.database, either.store, either.clock, study_instance_uid=study, patient_id=None, reason="asked"
        )
        return stored

    monkeypatch.setattr(either.store, "put", forgotten_right_after)
    assert intake.receive(image) == Status.SUCCESS
    with either.database.read() as session:
        assert either.store.whole(*session.execute(select(Location.uri, Location.sha256)).one())
