"""The DICOM Conformance Statement says what the program does: its tables are those of the code."""

from __future__ import annotations

import re
import ssl
from dataclasses import fields
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.datadict import dictionary_keyword
from pydicom.uid import UID, SecondaryCaptureImageStorage
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from dicom_io.network.association import Peer
from dicom_io.network.presentation_contexts import (
    RECEIVED_SOP_CLASSES,
    RECEIVED_TRANSFER_SYNTAXES,
    UNCOMPRESSED,
    received_contexts,
)
from dicom_io.network.status_codes import ActionStatus, FailureReason, store_result
from dicom_io.network.tls import listening_context
from dicom_io.objects import patient_and_study
from dicom_io.objects.heatmap_secondary_capture import HeatmapRequest, heatmap_secondary_capture
from dicom_io.receive.listener import ListenerSettings
from dicom_io.receive.storage_commitment import MOST_REFERENCES
from dicom_io.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from tests.dicom_io.images import image_file
from tests.peers.certificates import Authority
from worker.config.dicom_peers import listener_settings
from worker.config.settings import Dicom, load_settings
from worker.runtime.timeouts import (
    COMMITMENT_PATIENCE,
    COMMITMENT_QUIET,
    DELIVERY_BACKOFF,
    DELIVERY_BATCH,
    PEER_AWAY,
)

TEXT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
PICTURE = np.zeros((8, 8, 3), np.uint8)


def table(header: str) -> list[list[str]]:
    """The rows of the one table whose header line starts so."""
    lines = TEXT.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(f"| {header} |")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def value(parameter: str) -> str:
    return next(
        row[1] for row in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", TEXT, flags=re.MULTILINE) if row[0] == parameter
    )


def test_sop_classes_are_those_that_are_accepted() -> None:
    rows = {uid: (scu, scp) for _, uid, scu, scp in table("SOP class | UID")}
    assert (
        set(rows)
        == {Verification, StorageCommitmentPushModel, *RECEIVED_SOP_CLASSES}
        == {str(each.abstract_syntax) for each in received_contexts()}
    )
    assert {scp for _, scp in rows.values()} == {"yes"}
    assert {uid for uid, (scu, _) in rows.items() if scu == "yes"} == {Verification, SecondaryCaptureImageStorage}


@pytest.mark.parametrize(
    ("header", "syntaxes"),
    [("transfer syntax of Storage", RECEIVED_TRANSFER_SYNTAXES), ("transfer syntax of Verification", UNCOMPRESSED)],
)
def test_transfer_syntaxes_stand_in_the_order_of_acceptance(header: str, syntaxes: tuple[str, ...]) -> None:
    assert [uid for _, uid in table(header)] == list(syntaxes)


def test_names_belong_to_their_uids() -> None:
    rows = [(row[0], row[1]) for header in ("SOP class | UID", "transfer syntax of Storage") for row in table(header)]
    for name, uid in rows:
        said, official = (set(re.findall(r"[A-Za-z]{2,}|\d+", text)) for text in (name, UID(uid).name))
        # the statement says Retired, Process(es) and leaves out "Image Compression"; nothing else may differ
        assert said ^ official <= {"Retired", "Image", "Compression", "SOP", "Class", "Process", "Processes"}, name


def test_initiator_proposes_what_is_said() -> None:
    rows = {(name.split(" (")[0], uid) for name, _, uid in table("SOP class proposed")}
    assert rows == {(name, uid) for name in ("Secondary Capture Image Storage", "Verification") for uid in UNCOMPRESSED}


def test_association_parameters_are_the_programs() -> None:
    settings = ListenerSettings()
    assert value("Implementation Class UID") == IMPLEMENTATION_CLASS_UID
    assert value("Implementation Version Name") == IMPLEMENTATION_VERSION_NAME
    assert value("Maximum PDU length received") == f"{settings.maximum_pdu} bytes"
    assert value("Associations at once").startswith(f"{settings.maximum_associations};")
    assert value("own AE title") == Dicom().ae_title
    assert value("own port") == str(Dicom().port)
    peer = {field.name: field.default for field in fields(Peer)}
    assert value("connecting") == f"{peer['connect_timeout']:g} s"
    assert value("answer to an association or release request") == f"{peer['association_timeout']:g} s"
    assert value("answer to one C-STORE or C-ECHO") == f"{peer['response_timeout']:g} s"
    interfaces = " ".join(TEXT.split("### 4.3")[1].split("###")[0].split())
    assert f"association request within {settings.association_timeout:g} s" in interfaces
    assert f"silent for longer than {settings.idle_timeout:g} s" in interfaces
    assert f"one PDU must arrive within {settings.pdu_timeout:g} s" in interfaces
    assert f"At most {4 * settings.maximum_associations} connections" in interfaces
    assert f"more than {settings.maximum_object >> 20} MB" in interfaces
    assert f"above {settings.maximum_held >> 20} MB" in interfaces
    assert f"at most {DELIVERY_BATCH}" in TEXT


def test_configured_defaults_are_the_listeners_own(tmp_path: Path) -> None:
    assert listener_settings(load_settings(home=tmp_path)) == ListenerSettings()


def test_tls_is_the_one_that_is_spoken(tmp_path: Path) -> None:
    context = listening_context(Authority(tmp_path).issue("listener"))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    names = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in names)
    assert "ECDHE with AES-GCM or ChaCha20-Poly1305" in " ".join(TEXT.split())


def test_statuses_returned_are_those_the_listener_can_return() -> None:
    sources = "".join(
        (Path(__file__).parents[2] / name).read_text(encoding="utf-8")
        for name in (
            "dicom_io/receive/listener.py",
            "dicom_io/receive/store_request.py",
            "dicom_io/receive/messages.py",
            "worker/intake/intake.py",
        )
    )
    from dicom_io.network.status_codes import Status

    used = {Status[name] for name in re.findall(r"\bStatus\.([A-Z_]+)\b", sources)}
    # a rejected association is recorded under this name; COERCED is understood, and never returned
    used -= {Status.NOT_AUTHORISED, Status.COERCED}
    assert {int(code, 16) for _, code, _ in table("status returned by Storage")} == {int(status) for status in used}


def test_commitment_answers_what_is_said() -> None:
    assert {int(code, 16) for _, code, _ in table("failure reason")} == {int(reason) for reason in FailureReason}
    assert {int(code, 16) for _, code, _ in table("status returned by N-ACTION")} == {
        int(each) for each in ActionStatus
    }
    said = " ".join(TEXT.split("4.2.1.5")[1].split("####")[0].split())
    assert f"At most {MOST_REFERENCES} instances" in said
    assert f"silent for {COMMITMENT_QUIET:g} s" in said
    assert f"for {COMMITMENT_PATIENCE.total_seconds() / 3600:g} hours" in said
    assert "after " + ", ".join(map(str, DELIVERY_BACKOFF[:-1])) + f" and then every {DELIVERY_BACKOFF[-1]}" in said


def test_statuses_received_mean_what_is_said() -> None:
    meanings = {"stored": "stored", "sent again": "retry", "failed": "permanent"}
    seen = set()
    for codes, what in table("status received"):
        result = next(meaning for start, meaning in meanings.items() if what.startswith(start))
        for low, high in re.findall(r"\b([0-9A-F]{4})\b(?: to ([0-9A-F]{4}))?", codes):
            for code in {int(low, 16), int(high or low, 16)}:
                assert store_result(code)[0] == result, codes
                seen.add(result)
    assert seen == set(meanings.values())
    assert store_result(0x0999)[0] == "permanent"
    for seconds in (DELIVERY_BACKOFF, PEER_AWAY):
        assert "after " + ", ".join(f"{n:g}" for n in seconds[:-1]) + f" and then every {seconds[-1]:g} seconds" in TEXT


@pytest.mark.parametrize("rich", [False, True], ids=["a plain source", "a source with everything"])
def test_heatmap_has_exactly_the_attributes_of_its_table(rich: bool) -> None:
    extra = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "9",
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    extra |= {"TimezoneOffsetFromUTC": "+0100", "BodyPartExamined": "HAND", "Laterality": "L"}
    source = image_file(np.ones((8, 8), np.uint16), **(extra if rich else {"BodyPartExamined": "CHEST"}))
    request = HeatmapRequest(
        installation_id=UUID(int=1),
        object_key="k",
        series_key="s",
        label="Mass",
        probability=0.5,
        threshold=0.5,
        model_name="m",
        model_digest="d",
        application_version="a",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        pixel_spacing=(1.0, 1.0) if rich else None,
        patient_orientation="L\\F",
    )
    made = dcmread(BytesIO(heatmap_secondary_capture(source, PICTURE, request)[1]))
    rows = {(row[2], row[1]): row[3] for row in table("module | attribute | tag | usage | value") if row[2]}
    said = {dictionary_keyword(int(tag[1:5] + tag[6:10], 16)): usage for (tag, _), usage in rows.items()}
    present = {element.keyword for element in made} - set(patient_and_study._KEYWORDS)
    assert present <= set(said), "an attribute that the statement does not name"
    assert {keyword for keyword, usage in said.items() if usage == "ALWAYS"} <= present
    if rich:
        assert present == set(said)


def test_tags_and_names_of_the_heatmap_belong_together() -> None:
    for _, name, tag, _, _ in table("module | attribute | tag | usage | value"):
        if tag:
            keyword = dictionary_keyword(int(tag[1:5] + tag[6:10], 16))
            assert re.sub(r"[^A-Za-z]", "", name.replace("'s", "")).lower() == keyword.lower(), name


def test_no_private_attribute_is_written() -> None:
    source = image_file(np.ones((8, 8), np.uint16))
    request = HeatmapRequest(UUID(int=1), "k", "s", "Mass", 0.5, 0.5, "m", "d", "a", datetime(2026, 1, 1, tzinfo=UTC))
    made = dcmread(BytesIO(heatmap_secondary_capture(source, PICTURE, request)[1]))
    assert not [element.tag for element in made.iterall() if element.tag.is_private]
