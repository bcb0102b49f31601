"""Identity that contradicts itself is kept, named and shown; what is only written differently is no contradiction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from db.engine.session import Database
from db.intake.identity_conflicts import (
    AGAIN_OTHER_PATIENT,
    AGAIN_OTHER_SERIES,
    AGAIN_OTHER_STUDY,
    DIFFERENT_CONTENT,
    OTHER_PATIENT,
    OTHER_STUDY_DATA,
)
from db.intake.instances import RecordedElsewhere, record_instance
from db.intake.misfiled_instances import MISFILED, NOTHING_LEFT
from db.records import NewInstance, StudyIdentity
from db.retention import erasure
from db.tables.studies import Instance, Location, Study
from db.views.study_page import study_page
from db.views.worklist import worklist
from tests.db.conftest import NOON

Make = Callable[..., NewInstance]
FIRST = StudyIdentity(
    study_instance_uid="1.2.1",
    patient_id="P1",
    patient_name="Müller^Jörg",
    patient_birth_date="19500101",
    patient_sex="M",
    accession_number="A1",
    study_date="20260301",
)


def record(database: Database, new: NewInstance) -> None:
    for last in (False, True):
        try:
            with database.write() as session:
                record_instance(session, new)
            return
        except RecordedElsewhere:
            assert not last


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"patient_id": "P2"}, [f"{OTHER_PATIENT}: ID"]),
        ({"patient_name": "Meier^Jörg", "patient_sex": "F"}, [f"{OTHER_PATIENT}: name, sex"]),
        ({"patient_birth_date": "19500102"}, [f"{OTHER_PATIENT}: birth date"]),
        ({"accession_number": "A2"}, [f"{OTHER_STUDY_DATA}: accession number"]),
        ({"study_date": "20260302", "patient_id": "X"}, [f"{OTHER_PATIENT}: ID", f"{OTHER_STUDY_DATA}: date"]),
        ({"patient_name": "MU\u0308LLER^JO\u0308RG^^^", "patient_id": " P1 "}, []),
        ({"patient_name": "", "patient_id": "", "accession_number": ""}, []),
    ],
)
def test_second_image_of_a_study_is_flagged_where_it_contradicts_the_first(
    with_model: Database, new_instance: Make, changes: dict[str, str], flags: list[str]
) -> None:
    record(with_model, replace(new_instance(1), study=FIRST))
    record(with_model, replace(new_instance(2), study=replace(FIRST, **changes)))
    with with_model.read() as session:
        assert session.scalars(select(Instance.flags).order_by(Instance.id)).all() == [[], flags]
        (item,) = worklist(session)
    assert list(item.flags) == flags


def test_what_the_first_image_does_not_say_is_taken_from_the_next_and_held_against_the_third(
    with_model: Database, new_instance: Make
) -> None:
    silent = replace(FIRST, patient_id="", accession_number="")
    for number, study in enumerate((silent, FIRST, replace(FIRST, patient_id="P9")), 1):
        record(with_model, replace(new_instance(number), study=study))
    with with_model.read() as session:
        study_row = session.scalars(select(Study)).one()
        flags = session.scalars(select(Instance.flags).order_by(Instance.id)).all()
    assert (study_row.patient_id, study_row.accession_number) == ("P1", "A1")
    assert flags == [[], [], [f"{OTHER_PATIENT}: ID"]]


@pytest.mark.parametrize(
    ("changes", "series", "flags"),
    [
        ({}, "1.2.4", []),
        ({}, "1.2.5", [AGAIN_OTHER_SERIES]),
        ({"study_instance_uid": "1.2.2"}, "1.2.5", [AGAIN_OTHER_STUDY]),
        (
            {"study_instance_uid": "1.2.2", "patient_id": "P2"},
            "1.2.4",
            [f"{AGAIN_OTHER_PATIENT}: ID", AGAIN_OTHER_STUDY],
        ),
    ],
)
def test_same_uid_with_other_bytes_says_for_whom_and_where_it_came_again(
    with_model: Database, new_instance: Make, changes: dict[str, str], series: str, flags: list[str]
) -> None:
    first = replace(new_instance(1), study=FIRST)
    record(with_model, first)
    other = replace(
        first,
        study=replace(FIRST, **changes),
        series_instance_uid=series,
        uri="store:cc/dd/other.dcm",
        sha256="f" * 64,
        calling_ae="CT7",
    )
    for _ in range(2):
        record(with_model, other)
    with with_model.read() as session:
        assert session.scalars(select(Instance.flags)).all() == [[DIFFERENT_CONTENT, *flags]]
        page = study_page(session, "1.2.1", NOON)
    assert page is not None
    (image,) = page.row.images
    assert image.source_sha256 == first.sha256, "the first bytes are those that are read"
    assert [(each.calling_ae, each.study_instance_uid) for each in image.others] == [
        ("CT7", other.study.study_instance_uid)
    ]


@pytest.mark.parametrize("has_own", [False, True], ids=["nothing else of it came", "it has an image of its own"])
def test_image_under_anothers_uid_is_found_from_the_study_it_names_and_shown_in_neither(
    with_model: Database, new_instance: Make, has_own: bool
) -> None:
    named = replace(FIRST, study_instance_uid="1.2.2", patient_id="P2", patient_name="B^B")
    first = replace(new_instance(1), study=FIRST)
    misfiled = replace(first, study=named, uri="store:cc/dd/misfiled.dcm", sha256="f" * 64, calling_ae="CT7")
    record(with_model, first)
    if has_own:
        record(with_model, replace(new_instance(2), study=named))
    for _ in range(2):
        record(with_model, misfiled)
    with with_model.read() as session:
        items = {item.study_instance_uid: item for item in worklist(session)}
        page = study_page(session, "1.2.2", NOON)
        holder = study_page(session, "1.2.1", NOON)
    assert page is not None
    assert holder is not None
    item = items["1.2.2"]
    assert (item.patient_id, item.flags, item.findings) == ("P2", (MISFILED,), ())
    assert item.state == ("pending" if has_own else "not_applicable")
    assert has_own or item.reason == f"{MISFILED}, study 1.2.1: kept there, not read"
    assert [image.sop_instance_uid for image in page.row.images] == (["1.2.3.2"] if has_own else [])
    assert [(each.holder, each.calling_ae, each.sha256) for each in page.row.misfiled] == [("1.2.1", "CT7", "f" * 64)]
    assert holder.row.misfiled == ()

    with with_model.write() as session:  # who forgets its patient forgets these bytes too
        (study_id,) = erasure.studies_of(session, patient_id="P2")
        gone = erasure.erase(session, study_id, requested_by="me", reason="", now=NOON)
    assert set(gone.uris) == {misfiled.uri, *(["store:aa/bb/2.dcm"] if has_own else [])}
    with with_model.read() as session:
        assert [item.study_instance_uid for item in worklist(session)] == ["1.2.1"]
        assert session.scalars(select(Location.uri)).all() == [first.uri]


def test_study_whose_image_went_with_the_study_that_kept_it_says_so_and_ages(
    with_model: Database, new_instance: Make
) -> None:
    first = replace(new_instance(1), study=FIRST)
    record(with_model, first)
    record(with_model, replace(first, study=replace(FIRST, study_instance_uid="1.2.2"), uri="s", sha256="f" * 64))
    with with_model.write() as session:
        (study_id,) = erasure.studies_of(session, study_instance_uid="1.2.1")
        erasure.erase(session, study_id, requested_by="me", reason="", now=NOON)
    with with_model.read() as session:
        (item,) = worklist(session)
        assert (item.study_instance_uid, item.state, item.reason) == ("1.2.2", "not_applicable", NOTHING_LEFT)
        assert len(erasure.removable(session, before=NOON + timedelta(seconds=1), limit=9)) == 1


def test_senders_at_once_lose_no_copy_and_no_flag(with_model: Database, new_instance: Make) -> None:
    first = replace(new_instance(1), study=FIRST)
    copies = [
        first,
        replace(first, uri="store:2", sha256="2" * 64, study=replace(FIRST, patient_id="P2")),
        replace(first, uri="store:3", sha256="3" * 64, series_instance_uid="1.2.5"),
        replace(first, uri="store:4", sha256="4" * 64, study=replace(FIRST, study_instance_uid="1.2.2")),
    ]
    record(with_model, first)
    failed: list[Exception] = []
    start = threading.Barrier(len(copies) * 2)

    def send(new: NewInstance) -> None:
        start.wait(60)
        try:
            record(with_model, new)
        except Exception as error:  # noqa: BLE001 - a thread's edge
            failed.append(error)

    threads = [threading.Thread(target=send, args=(new,)) for new in (*copies, *copies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    with with_model.read() as session:
        assert session.scalar(select(func.count()).select_from(Location)) == len(copies)
        (flags,) = session.scalars(select(Instance.flags)).all()
    assert set(flags) == {DIFFERENT_CONTENT, f"{AGAIN_OTHER_PATIENT}: ID", AGAIN_OTHER_SERIES, AGAIN_OTHER_STUDY}


def test_images_of_a_new_study_that_come_at_once_are_compared_all_the_same(
    with_model: Database, new_instance: Make
) -> None:
    images = [
        replace(new_instance(number), study=replace(FIRST, patient_id=f"P{number % 2}")) for number in range(1, 9)
    ]
    start = threading.Barrier(len(images))

    def send(new: NewInstance) -> None:
        start.wait(60)
        record(with_model, new)

    threads = [threading.Thread(target=send, args=(new,)) for new in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with with_model.read() as session:
        flagged = [bool(flags) for flags in session.scalars(select(Instance.flags))]
    assert (len(flagged), sum(flagged)) == (8, 4)
