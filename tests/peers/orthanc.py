"""Orthanc as the PACS: on free ports, in a folder of its own, without authentication, answering only loopback."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.peers.processes import Process
from tests.peers.programs import absent, free_port, require_peer

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

# Called for every C-STORE that arrives, before Orthanc decides whether it has the object already.
COUNT_ARRIVALS = """
function ReceivedInstanceFilter(dicom, origin, info)
    print('ARRIVED ' .. dicom.SOPInstanceUID)
    return true
end
"""


@dataclass(frozen=True)
class StoredInstance:
    """An object in Orthanc: its own identifier there and what its header says (text decoded)."""

    orthanc_id: str
    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    patient_name: str
    patient_id: str
    patient_birth_date: str


class Orthanc:
    """A running Orthanc. Use as a context manager; `kill` and `start` interrupt its life within it.

    Parameters
    ----------
    folder
        Where its configuration, storage, index and log go.
    known
        Other AEs it may send to: name -> (AE title, port on the loopback address).
    dicomweb
        Servers it may store at over HTTP: name -> URL. Needs its DICOMweb plugin.
    """

    ae_title = "PACS"

    def __init__(
        self,
        folder: Path,
        known: dict[str, tuple[str, int]] | None = None,
        dicomweb: dict[str, str] | None = None,
    ) -> None:
        program = require_peer("orthanc")
        if dicomweb and not DICOMWEB_PLUGIN.exists():
            absent("Orthanc's DICOMweb plugin: apt-get install orthanc-dicomweb")
        self.folder = folder
        self.dicom_port = free_port()
        self.http_port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "count_arrivals.lua"
        script.write_text(COUNT_ARRIVALS, encoding="utf-8")
        configuration = folder / "orthanc.json"
        configuration.write_text(
            json.dumps(
                {
                    "Name": "cxr-triage tests",
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "DicomAet": self.ae_title,
                    "DicomPort": self.dicom_port,
                    "DicomServerEnabled": True,
                    "DicomAlwaysAllowEcho": True,
                    "DicomAlwaysAllowStore": True,
                    "DicomCheckCalledAet": True,
                    "UnknownSopClassAccepted": False,
                    "HttpPort": self.http_port,
                    "HttpServerEnabled": True,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "OverwriteInstances": False,
                    "StableAge": 1,
                    "DicomModalities": {name: [aet, "127.0.0.1", port] for name, (aet, port) in (known or {}).items()},
                    "LuaScripts": [str(script)],
                    "Plugins": [str(DICOMWEB_PLUGIN)] if dicomweb else [],
                    "DicomWeb": {"Servers": {name: [url] for name, url in (dicomweb or {}).items()}},
                },
                indent=2,
            ),
            encoding="utf-8",
        )
        self.process = Process("orthanc", [program, "--verbose", str(configuration)], folder / "orthanc.log", folder)

    def __enter__(self) -> Orthanc:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.process.stop(5)

    def start(self) -> None:
        """Start it and wait until its DICOM and HTTP servers answer."""
        before = self.process.log_text().count("Orthanc has started")
        self.process.start()
        self.process.wait_ready(lambda: self.process.log_text().count("Orthanc has started") > before, 60)

    def kill(self) -> None:
        """Kill -9 it; what it has acknowledged is kept."""
        self.process.kill()

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """The parsed JSON answer of its REST interface."""
        return json.loads(self._fetch(path))

    def studies(self) -> list[str]:
        """Study Instance UIDs it holds."""
        return [study["MainDicomTags"]["StudyInstanceUID"] for study in self.get("/studies?expand")]

    def instances(self) -> list[StoredInstance]:
        """Every object it holds."""
        return [self._describe(each) for each in self.get("/instances")]

    def instances_of(self, modality: str) -> list[StoredInstance]:
        """The objects of one modality; ours are ``OT`` (Secondary Capture)."""
        return [each for each in self.instances() if each.modality == modality]

    def count(self, modality: str | None = None) -> int:
        """How many objects it holds, of one modality where given; cheap enough to poll."""
        if modality is None:
            return int(self.get("/statistics")["CountInstances"])
        series = [each for each in self.get("/series?expand") if each["MainDicomTags"].get("Modality") == modality]
        return sum(len(each["Instances"]) for each in series)

    def download(self, instance: StoredInstance, to: Path) -> Path:
        """Write the object's file, byte for byte as Orthanc keeps it."""
        to.write_bytes(self._fetch(f"/instances/{instance.orthanc_id}/file"))
        return to

    def arrivals(self) -> Counter[str]:
        """How often each SOP Instance UID arrived by C-STORE, repeats counted though Orthanc keeps only the first."""
        words = (line.split("ARRIVED ") for line in self.process.log_text().splitlines() if "ARRIVED " in line)
        return Counter(after.split()[0] for _, after in words)

    def send_to(self, name: str, instance: StoredInstance) -> None:
        """Let Orthanc send an object by C-STORE to one of the AEs it knows."""
        self._fetch(f"/modalities/{name}/store", instance.orthanc_id.encode())

    def upload(self, file: Path) -> str:
        """Give it a file over its REST interface; its identifier there."""
        return str(json.loads(self._fetch("/instances", file.read_bytes()))["ID"])

    def store_over_http(self, name: str, identifiers: list[str]) -> Any:  # noqa: ANN401 - JSON
        """Let Orthanc store objects by STOW-RS at a server it knows; its own answer."""
        body = json.dumps({"Resources": identifiers, "Synchronous": True}).encode()
        return json.loads(self._fetch(f"/dicom-web/servers/{name}/stow", body))

    def _describe(self, identifier: str) -> StoredInstance:
        tags = self.get(f"/instances/{identifier}/simplified-tags")
        return StoredInstance(
            orthanc_id=identifier,
            sop_instance_uid=tags["SOPInstanceUID"],
            sop_class_uid=tags["SOPClassUID"],
            study_instance_uid=tags["StudyInstanceUID"],
            series_instance_uid=tags["SeriesInstanceUID"],
            modality=tags.get("Modality", ""),
            patient_name=tags.get("PatientName", ""),
            patient_id=tags.get("PatientID", ""),
            patient_birth_date=tags.get("PatientBirthDate", ""),
        )

    def _fetch(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())
