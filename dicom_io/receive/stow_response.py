"""The response to a Store Instances request over HTTP (PS3.18 10.5.3 and I.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from dicom_io.network.status_codes import Status

DICOM_JSON = "application/dicom+json"


@dataclass(frozen=True)
class StowOutcome:
    """The outcome of one part of the request; the UIDs are empty where the part does not have them."""

    status: Status
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


def store_response(outcomes: Sequence[StowOutcome]) -> bytes:
    """Build the Store Instances Response Module in the DICOM JSON model.

    Stored instances are in ReferencedSOPSequence, others in FailedSOPSequence with their FailureReason; parts without
    UIDs are in OtherFailuresSequence. Retrieve URLs are empty: there is no retrieve service.
    """
    response = Dataset()
    response.RetrieveURL = ""
    stored: list[Dataset] = []
    failed: list[Dataset] = []
    other: list[Dataset] = []
    for outcome in outcomes:
        item = Dataset()
        named = bool(outcome.sop_class_uid and outcome.sop_instance_uid)
        if named:
            item.ReferencedSOPClassUID = outcome.sop_class_uid
            item.ReferencedSOPInstanceUID = outcome.sop_instance_uid
        if outcome.status == Status.SUCCESS:
            item.RetrieveURL = ""
            stored.append(item)
        else:
            item.FailureReason = int(outcome.status)
            (failed if named else other).append(item)
    for keyword, items in (
        ("ReferencedSOPSequence", stored),
        ("FailedSOPSequence", failed),
        ("OtherFailuresSequence", other),
    ):
        if items:
            setattr(response, keyword, Items(items))
    return response.to_json().encode()
