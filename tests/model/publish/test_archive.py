"""A bundle leaves as one file and comes back the same; what was changed on the way is refused with the reason."""

import io
import shutil
import tarfile
import zipfile

import pytest

from model.dataset.patient_digests import KEY_FILE
from model.network.keras_files import ImportRefused
from model.publish.archive import import_bundle
from model.publish.bundle_writer import write_table
from model.publish.export_formats import export_bundle
from tests.model.small_bundle import write_small_bundle


@pytest.fixture(scope="module")
def packed(demonstration, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "demonstration.zip"
    export_bundle(demonstration, path)
    return path


@pytest.mark.parametrize("name", ["bundle.zip", "bundle.tar", "bundle.tar.gz", "bundle"])
def test_a_bundle_comes_back_as_it_left(demonstration, tmp_path, name):
    export_bundle(demonstration, tmp_path / name)
    bundle = import_bundle(tmp_path / name, tmp_path / "back")
    assert bundle.digest == demonstration.digest
    assert bundle.thresholds == demonstration.thresholds
    for path in demonstration.folder.iterdir():
        if path.name == KEY_FILE:  # who can open the digests of patients stays where the network was trained
            assert not (tmp_path / "back" / path.name).exists()
        else:
            assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_the_same_bundle_gives_the_same_bytes(demonstration, packed, tmp_path):
    export_bundle(demonstration, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def rewritten(packed, target, change):
    """The archive with the bytes of its members changed by a function of (name, data); None leaves one out."""
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            data = change(name.split("/")[1], source.read(name))
            if data is not None:
                archive.writestr(name, data)
    return target


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("weights.keras", lambda data: data[:-1] + b"?", "weights.keras was changed: its SHA-256 is"),
        ("network.bin", lambda data: data[:-9], "network.bin was changed"),
        ("head.npz", lambda data: None, "head.npz cannot be read"),
        ("golden.npz", lambda data: data + b"x", "golden.npz was changed"),
        ("model.toml", lambda data: None, "no bundle: it holds no model.toml"),
        ("model.toml", lambda data: data[:200], "model.toml"),
        (
            "model.toml",
            lambda data: data.replace(b'"Edema"', b'"Oedema"'),
            "labels, head or preprocessing were changed",
        ),
        ("model.toml", lambda data: data.replace(b'"squash"', b'"crop"'), "labels, head or preprocessing were changed"),
        ("model.toml", lambda data: data.replace(b"format = 2", b"format = 9"), "its format is 9"),
        ("model.toml", lambda data: data.replace(b"[1, 5]", b"[0, 99]"), "model.toml was changed"),
        ("model.toml", lambda data: data.replace(b"threshold = 0.", b"threshold = 7."), "must be within 0 and 1"),
    ],
)
def test_what_was_changed_on_the_way_is_named(packed, tmp_path, file, change, message):
    path = rewritten(packed, tmp_path / "bad.zip", lambda name, data: change(data) if name == file else data)
    with pytest.raises(ImportRefused, match=message.replace(".", r"\.")):
        import_bundle(path, tmp_path / "back")


def test_a_network_that_does_not_answer_as_its_golden_output_is_refused(small, tmp_path):
    """Every digest is right, but the network is not the one that the golden output came from."""
    folder = shutil.copytree(small.folder, tmp_path / "mismatched")
    other = write_small_bundle(tmp_path / "other", slope=3.0)
    files = dict(small.description["files"])
    for name in ("network.xml", "network.bin"):
        shutil.copy(other.folder / name, folder / name)
        files[name] = other.description["files"][name]
    write_table(folder, {**small.description, "files": files})
    with pytest.raises(ImportRefused, match=r"differs from the golden output of small: logits by"):
        import_bundle(folder, tmp_path / "back")


def test_truncated_archives_are_refused(packed, demonstration, tmp_path):
    export_bundle(demonstration, tmp_path / "whole.tar.gz")
    for source in (packed, tmp_path / "whole.tar.gz"):
        data = source.read_bytes()
        cut = tmp_path / f"cut{''.join(source.suffixes)}"
        cut.write_bytes(data[: len(data) // 2])
        with pytest.raises(ImportRefused, match="damaged or truncated"):
            import_bundle(cut, tmp_path / "back")


@pytest.mark.parametrize("name", ["../model.toml", "/etc/model.toml", "a/b/model.toml"])
def test_archives_that_reach_out_of_their_folder_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(ImportRefused, match="do not lie in one folder"):
        import_bundle(tmp_path / "evil.zip", tmp_path / "back")
    assert list((tmp_path / "back").iterdir()) == []


def test_a_tar_is_unpacked_no_further_than_its_limits(tmp_path):
    """It has no table of contents: 1.5 MB of it may unpack to gigabytes before its end is seen."""
    with tarfile.open(tmp_path / "many.tar.gz", "w:gz") as archive:
        for number in range(500):
            archive.addfile(tarfile.TarInfo(f"file {number}"))
    with pytest.raises(ImportRefused, match="it holds 65 files of 0 bytes; allowed are 64 files"):
        import_bundle(tmp_path / "many.tar.gz", tmp_path / "back")
    with tarfile.open(tmp_path / "header.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("model.toml")
        member.pax_headers = {"comment": "x" * (8 << 20)}
        archive.addfile(member)
    with pytest.raises(ImportRefused, match=r"a header of it claims 83\d+ bytes; allowed are 1048576"):
        import_bundle(tmp_path / "header.tar.gz", tmp_path / "back")


def test_links_in_an_archive_are_refused(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        link = tarfile.TarInfo("model.toml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link, io.BytesIO())
    with pytest.raises(ImportRefused, match=r"'model\.toml' in it is a link or a device"):
        import_bundle(tmp_path / "evil.tar", tmp_path / "back")


def flagged_as_encrypted(data):
    """The bytes of a zip of one member whose headers say that it is encrypted (APPNOTE 4.4.4)."""
    changed = bytearray(data)
    changed[changed.index(b"PK\3\4") + 6] |= 1
    changed[changed.index(b"PK\1\2") + 8] |= 1
    return bytes(changed)


def packed_badly(path, kind):
    noise = b"".join(bytes([index % 251, index % 7]) for index in range(50_000))
    if kind in ("encrypted", "lzma"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA if kind == "lzma" else zipfile.ZIP_STORED) as archive:
            archive.writestr("model.toml", noise)
        data = path.read_bytes()
        start = data.index(b"model.toml") + 30
        path.write_bytes(
            flagged_as_encrypted(data) if kind == "encrypted" else data[:start] + b"\xff" * 99 + data[start:]
        )
        return
    member = tarfile.TarInfo("model.toml")
    member.size = len(noise)
    if kind == "null":
        member.pax_headers = {"path": "model\0.toml"}
    if kind == "sparse":
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999999"}
    with tarfile.open(path, "w:xz" if kind == "xz" else "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(noise))
    if kind == "xz":
        path.write_bytes(path.read_bytes()[:100] + b"\xff" * 200)


@pytest.mark.parametrize("kind", ["encrypted", "lzma", "xz", "null", "sparse"])
def test_archives_that_trip_over_their_own_module_are_refused_with_a_reason(tmp_path, kind):
    path = tmp_path / ("evil.zip" if kind in ("encrypted", "lzma") else "evil.tar")
    packed_badly(path, kind)
    with pytest.raises(ImportRefused, match="damaged or truncated"):
        import_bundle(path, tmp_path / "back")


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
@pytest.mark.parametrize("suffix", [".h5", ".xml"])
def test_the_network_alone_is_written_for_other_programs(demonstration, tmp_path, suffix):
    import numpy as np

    path = tmp_path / f"network{suffix}"
    export_bundle(demonstration, path)
    golden = demonstration.golden
    if suffix == ".xml":
        import openvino

        logits = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(golden.tensors[:1])
        found = next(value for value in logits.values() if value.ndim == 2)
    else:
        import model

        found = np.asarray(model.load_model(path).predict_on_batch(golden.tensors[:1]))
    assert found == pytest.approx(golden.logits[:1], abs=2e-3 * (1 + float(np.abs(golden.logits).max())))


def test_forms_that_are_not_written_are_refused_with_those_that_are(demonstration, tmp_path):
    with pytest.raises(ImportRefused, match=r"not exported as \.onnx; allowed are \.keras, \.h5"):
        export_bundle(demonstration, tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []
