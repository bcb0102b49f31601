"""Every file of the packages pydicom and pydicom-data, and the shared images, goes through; each ends with a reason."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from db.tables.analyses import Analysis
from dicom_io.gate.decision import decide
from dicom_io.header.instance_header import UnreadableDicom, read_header
from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from dicom_io.receive.part10_files import examine_file
from dicom_io.receive.store_request import StoreRejected
from tests.worker.analysis.test_runner import receive
from worker.admission.rules import gate_rules
from worker.analysis.runner import Analyst
from worker.installation import Site
from worker.model_registry import bundles

_DECODED_WHATEVER_IT_IS = 1_000_000  # bytes; larger ones only where they are accepted


def corpus(shared: Path) -> Iterator[Path]:
    spec = importlib.util.find_spec("data_store")
    data_store = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    folders = [Path(pydicom.__file__).parent / "data", data_store, shared / "dicom"]
    for folder in folders:
        if folder is not None:
            yield from sorted(each for each in folder.rglob("*") if each.is_file() and each.suffix != ".pyc")


def end_of(site: Site, analyst: Analyst, path: Path) -> tuple[str, str]:
    """How a file ends and why, on the way of a received object: examination, gate, intake, analyst."""
    try:
        data, facts = examine_file(path.read_bytes())
    except StoreRejected as error:
        return "not taken", error.reason
    assert facts == read_header(data)
    decision = decide(facts, gate_rules(site.settings), is_own=False)
    queued = receive(site, data)
    if not decision.accepted:
        assert queued == []
        return "refused", decision.reason
    if not queued:
        return "kept", "received again with different content"
    state = analyst.analyse(queued[0])
    with site.database.read() as session:
        return state, session.get_one(Analysis, queued[0]).reason


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore")
def test_every_file_of_the_corpus_ends_with_a_reason(site: Site, bundle_folder: Path, shared_data: Path) -> None:
    bundles.activate(site, str(bundle_folder))
    analyst = Analyst(site.settings, site.database, site.store)
    ends: dict[str, tuple[str, str]] = {}
    for path in corpus(shared_data):
        ends[path.name] = state, reason = end_of(site, analyst, path)
        assert state in ("done", "not taken", "refused", "failed", "kept"), (path, state, reason)
        assert state == "done" or reason, path
        if path.stat().st_size <= _DECODED_WHATEVER_IT_IS:  # what no gate would let through is decoded all the same
            try:
                assert read_grayscale(path).image.size > 0
            except (UnreadableDicom, PixelsUnreadable) as error:
                assert error.reason, path
    for (state, reason), number in Counter(ends.values()).most_common():
        print(f"{number:4} {state:8} {reason}")
    expected = {
        "RG1_UNCR.dcm": ("done", ""),
        "RG3_J2KR.dcm": ("refused", "BodyPartExamined is EXTREMITY: not a chest"),
        "CT_small.dcm": ("not taken", "SOP class CT Image Storage is not accepted"),
        "DICOMDIR": ("not taken", "SOP class Media Storage Directory Storage is not accepted"),
        "highdicom_dx_dog_thorax.dcm": ("refused", "Rows x Columns is 169 x 211: the short side is under 512 pixels"),
        "rtplan.dump": ("not taken", "not a DICOM file: it begins with neither preamble nor data set"),
    }
    assert {name: ends[name] for name in expected} == expected
    assert len(ends) > 200
