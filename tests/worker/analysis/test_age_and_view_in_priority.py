"""From the header to the priority: a bedside image can be HIGH; a contradictory age never is; a lateral is not read."""

from __future__ import annotations

import re
import shutil
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from db.views.worklist import worklist
from model.inference.domain_flags import OUTSIDE
from model.publish.bundle_writer import renew_manifest_checksum
from tests.worker.analysis.test_runner import receive
from worker.analysis.runner import Analyst
from worker.installation import Site
from worker.model_registry import bundles


@pytest.fixture
def sensitive(site: Site, bundle_folder: Path, tmp_path: Path) -> Site:
    """A site whose model finds something in every image that it may say something about."""
    folder = shutil.copytree(bundle_folder, tmp_path / "sensitive")
    text = (folder / "model.toml").read_text(encoding="utf-8")
    (folder / "model.toml").write_text(re.sub(r"threshold = 0\.\d+", "threshold = 0.000001", text), encoding="utf-8")
    renew_manifest_checksum(folder)
    bundles.activate(site, str(folder))
    return site


READ: list[tuple[dict[str, object], str, bool]] = [
    ({"ViewPosition": "PORTABLE"}, "HIGH", False),
    ({"ViewPosition": "AP SUPINE", "BodyPartExamined": "CHEST_AP"}, "HIGH", False),
    ({"ViewPosition": "LLD"}, "MEDIUM", True),
    ({"PatientBirthDate": "20190101", "AcquisitionDate": "20240601"}, "MEDIUM", True),
    ({"PatientAge": "000Y", "PatientBirthDate": "19740101", "AcquisitionDate": "20240601"}, "HIGH", False),
]


@pytest.mark.parametrize(("attributes", "priority", "outside"), READ)
def test_priority_follows_view_and_age_as_the_header_means_them(
    sensitive: Site, images: Path, attributes: dict[str, object], priority: str, outside: bool
) -> None:
    (analysis_id,) = receive(sensitive, _image(images, **{"PatientAge": "050Y", "PatientBirthDate": "", **attributes}))
    assert Analyst(sensitive.settings, sensitive.database, sensitive.store).analyse(analysis_id) == "done"
    with sensitive.database.read() as session:
        (item,) = worklist(session)
    assert (item.priority, OUTSIDE in item.flags) == (priority, outside)


def test_lateral_by_orientation_beside_view_position_pa_is_never_read(sensitive: Site, images: Path) -> None:
    assert receive(sensitive, _image(images, ViewPosition="PA", PatientOrientation=["A", "F"])) == []
    with sensitive.database.read() as session:
        (item,) = worklist(session)
    assert item.priority == "MEDIUM"
    assert "PatientOrientation is LATERAL, although ViewPosition is PA" in item.reason


def _image(images: Path, **attributes: object) -> bytes:
    dataset = dcmread(images / "RG1_UNCR.dcm")
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()
