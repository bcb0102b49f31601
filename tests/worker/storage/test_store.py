"""Bytes in the store are whole or not there, and nothing from the wire becomes a path."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from worker.storage.store import FolderStore, StoredFileLost, StoreUnavailable


def test_stored_bytes_come_back_from_an_address_made_of_their_hash(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    digest = hashlib.sha256(b"some image").hexdigest()
    for suffix in (".dcm", ""):
        stored = store.put(b"some image", suffix)
        assert stored.uri == f"store:{digest[:2]}/{digest[2:4]}/{digest}{suffix}"
        assert store.path(stored.uri).read_bytes() == b"some image"
        assert store.put(b"some image", suffix) == stored
        assert store.uri(store.path(stored.uri)) == stored.uri


@pytest.mark.parametrize(
    "uri", ["file:/etc/hosts", "aa/bb/1.dcm", "store:../outside", "store:/etc/hosts", "store:", ""]
)
def test_address_of_another_scheme_or_outside_the_store_is_refused(tmp_path: Path, uri: str) -> None:
    store = FolderStore(tmp_path / "store")
    (tmp_path / "outside").write_bytes(b"kept")
    with pytest.raises(StoredFileLost, match=r"allowed"):
        store.path(uri)
    with pytest.raises(StoredFileLost, match=r"allowed"):
        store.discard(uri)
    assert (tmp_path / "outside").is_file()


def test_bytes_are_held_against_the_rows_sha256_not_against_their_file_name(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    named = store.root / "some name"
    named.write_bytes(b"image")
    digest = hashlib.sha256(b"image").hexdigest()
    assert store.whole(store.uri(named), digest) == named
    with pytest.raises(StoredFileLost, match="damaged"):
        store.whole(store.put(b"image").uri, "0" * 64)


def test_file_and_folders_are_synced_before_put_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    stored = store.put(b"image")
    first, second, file = stored.uri.removeprefix("store:").split("/")
    # the bytes, then every folder that got a new name in it
    assert len(synced[0]) == 32
    assert synced[1:] == [second, first, "store"]
    assert file.startswith(stored.sha256)
    # the folders' own names are durable now, until somebody removes one
    synced.clear()
    store.discard(stored.uri)
    store.put(b"image")
    assert synced[1:] == [second]
    synced.clear()
    store.discard(stored.uri)
    (store.root / first / second).rmdir()
    store.put(b"image")
    assert synced[1:] == [second, first]


def test_failure_in_the_middle_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        store.put(b"image")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_what_is_there_already_needs_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    stored = store.put(b"image")

    def full(*_arguments: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.storage.incoming_file.FileIO", full)
    assert store.put(b"image") == stored
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        store.put(b"another image")


def test_truncated_file_under_the_right_name_is_replaced(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    stored = store.put(b"whole image")
    store.path(stored.uri).write_bytes(b"who")
    store.put(b"whole image")
    assert store.path(stored.uri).read_bytes() == b"whole image"


def test_file_gone_from_a_store_that_answers_is_lost_and_a_store_that_is_away_has_lost_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    stored = store.put(b"image")
    store.path(stored.uri).rename(tmp_path / "away")
    for address in (stored.uri, "store:aa/bb/none.dcm"):
        with pytest.raises(StoredFileLost, match="is gone from the store"):
            store.whole(address, stored.sha256)
    store.root.rename(tmp_path / "unmounted")
    store.root.mkdir()
    for address in (stored.uri, "store:aa/bb/none.dcm"):
        with pytest.raises(StoreUnavailable, match="is it mounted"):
            store.whole(address, stored.sha256)


def test_store_that_is_not_mounted_is_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "mount point").mkdir()
    with pytest.raises(StoreUnavailable, match="mount it"):
        FolderStore(tmp_path / "mount point", lambda: True)
    assert list((tmp_path / "mount point").iterdir()) == []
    FolderStore(tmp_path / "mount point", lambda: False).put(b"image")
    FolderStore(tmp_path / "mount point", lambda: True)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_one_file_that_the_disk_cannot_read_is_lost_and_no_other_error_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = FolderStore(tmp_path / "store")
    stored = store.put(b"image")

    def unreadable(*_arguments: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("worker.storage.store._sha256", unreadable)
    with pytest.raises(StoredFileLost if number == errno.EIO else StoreUnavailable):
        store.whole(stored.uri, stored.sha256)
    assert list((store.root / "incoming").iterdir()) == []
    monkeypatch.setattr(os, "fsync", unreadable)  # nor does a new file get there: the disk, or its server, is away
    with pytest.raises(StoreUnavailable):
        store.whole(stored.uri, stored.sha256)


def test_store_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        FolderStore(tmp_path / "file" / "store")


def test_damaged_bytes_are_never_handed_out_and_coming_again_mends_them(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    stored = store.put(b"some image")
    assert store.whole(stored.uri, stored.sha256).read_bytes() == b"some image"
    store.path(stored.uri).write_bytes(b"somE image")
    with pytest.raises(StoredFileLost, match="damaged"):
        store.whole(stored.uri, stored.sha256)
    assert store.put(b"some image") == stored
    assert store.whole(stored.uri, stored.sha256).read_bytes() == b"some image"


def test_folders_are_synced_also_where_another_process_has_just_renamed_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")
    stored = store.put(b"image")
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
    )
    store.put(b"image")
    first, second, _file = stored.uri.removeprefix("store:").split("/")
    assert synced == ["store", first, second]


def test_every_failure_of_the_file_system_is_the_store_that_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")
    stored = store.put(b"image")

    def stale(*_arguments: object, **_options: object) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stale)
        with pytest.raises(StoreUnavailable, match="Stale file handle"):
            store.path(stored.uri)
    monkeypatch.setattr("worker.storage.incoming_file.FileIO", stale)
    monkeypatch.setattr(Path, "unlink", stale)
    with pytest.raises(StoreUnavailable, match="Stale file handle"):
        store.put(b"another image")
