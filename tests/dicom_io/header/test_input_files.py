"""Files are recognized by their content; a DICOMDIR, hidden files and repeats are handled; none is silently missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydicom.fileset import FileSet
from pydicom.uid import ImplicitVRLittleEndian

from dicom_io.header.input_files import InputFile, find_inputs, kind_of
from tests.dicom_io.images import data_set_of, dicom_file, write
from tests.peers.radiographs import sample


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (dicom_file(), "dicom"),
        (data_set_of(dicom_file(ImplicitVRLittleEndian)), "dicom"),
        (data_set_of(dicom_file()), "dicom"),
        (b"\x89PNG\r\n\x1a\n....", "png"),
        (b"\xff\xd8\xff\xe0....", "jpeg"),
        (b"a letter", "unknown"),
        (b"", "unknown"),
        (b"\x08\x00", "unknown"),
        (b"\x08\x00\x05\x00\xff\xff\xff\xff", "unknown"),
    ],
)
def test_a_file_is_what_its_first_bytes_say(tmp_path: Path, content: bytes, kind: str) -> None:
    assert kind_of(write(tmp_path, content, "no-extension")) == kind


def test_folders_are_walked_in_order_each_file_once_hidden_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("b/2", "b/10", "a", ".hidden", ".git/x"):
        write(tmp_path, dicom_file(), name)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = list(find_inputs([tmp_path, tmp_path / "b" / "2", tmp_path]))
    assert [file.path.relative_to(tmp_path).as_posix() for file in found] == ["a", "b/10", "b/2"]
    assert {file.kind for file in found} == {"dicom"}


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        list(find_inputs([tmp_path / "absent"]))


def test_a_dicomdir_stands_for_its_folder_and_tells_of_what_is_missing(tmp_path: Path) -> None:
    files = FileSet()
    for name in ("RG1_UNCR", "RG3_UNCR"):
        files.add(sample(name))
    files.write(tmp_path)
    write(tmp_path, dicom_file(), "beside")
    listed = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in {"DICOMDIR", "beside"}]
    assert len(listed) == 2
    for start in (tmp_path, tmp_path / "DICOMDIR"):
        assert {file.path for file in find_inputs([start])} == {*listed, tmp_path / "beside"}
    listed[0].unlink()
    assert InputFile(listed[0], "dicom") in set(find_inputs([tmp_path / "DICOMDIR"]))
    listed[1].rename(listed[1].with_name(listed[1].name.lower()))  # a disc copied in another case is not missing
    assert len(list(find_inputs([tmp_path]))) == 3


def test_a_broken_dicomdir_does_not_hide_the_files_beside_it(tmp_path: Path) -> None:
    write(tmp_path, b"not a directory at all", "DICOMDIR")
    write(tmp_path, dicom_file(), "image")
    assert [file.path.name for file in find_inputs([tmp_path])] == ["image"]


def test_a_pipe_or_device_that_is_named_is_unknown_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found = list(find_inputs([tmp_path / "pipe", Path("/dev/zero"), tmp_path]))
    assert [(file.path.name, file.kind) for file in found] == [("pipe", "unknown"), ("zero", "unknown")]
