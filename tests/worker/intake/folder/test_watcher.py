"""What is laid into the watched folder comes to an end in done/ or failed/, and nothing else is touched."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from db.model_registry import activation
from db.tables.analyses import Analysis
from db.tables.studies import Instance, Location
from db.views.ledger_details import ledger_details
from tests.db.conftest import MODEL, NOON
from tests.peers.radiographs import Radiograph, chest, chests
from worker.config.settings import ConfigurationError, Imports, Settings
from worker.doctor.check_result import Examined
from worker.doctor.storage import imports
from worker.installation import Site
from worker.intake.back_pressure import Limits
from worker.intake.folder.watcher import Importer, import_folder
from worker.intake.intake import Intake
from worker.runtime.clock import now


class Watched:
    """A watched folder whose clock is turned by hand."""

    def __init__(self, site: Site, folder: Path, done: str = "keep") -> None:
        self.site, self.folder, self.time, self.free = site, folder, 0.0, 10**12
        folder.mkdir(exist_ok=True)
        self.settings = with_folder(site, folder, done)
        limits = Limits(site.settings, site.database, lambda: self.free)
        self.intake = Intake(site, lambda _id: None, limits)
        self.importer = self.another()

    def another(self) -> Importer:
        return Importer(self.settings, self.folder, self.intake, lambda: self.time)

    def scan(self, after: float = 3.0) -> int:
        self.time += after
        return self.importer.scan()

    def rest(self) -> int:
        """See what is there, then let it rest for so long that no doubt is left."""
        self.scan()
        return self.scan(3) + self.scan(120)

    def lay(self, radiograph: Radiograph, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(radiograph.path.read_bytes())
        return path

    def names(self, below: str = "") -> list[str]:
        top = self.folder / below
        return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())

    def instances(self) -> list[Instance]:
        with self.site.database.read() as session:
            return list(session.scalars(select(Instance)))

    def refusals(self) -> list[str]:
        with self.site.database.read() as session:
            return [each.reason for each in ledger_details(session).rejections]


def with_folder(site: Site, folder: Path, done: str = "keep") -> Settings:
    return site.settings.model_copy(
        update={"imports": Imports(folder=str(folder), done=done)}  # type: ignore[arg-type]
    )


@pytest.fixture
def watched(site: Site, tmp_path: Path) -> Watched:
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
    return Watched(site, tmp_path / "watched")


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> list[Radiograph]:
    return list(chests(tmp_path_factory.mktemp("images"), 3))


def test_files_of_nested_folders_are_taken_once_and_moved_to_done(
    watched: Watched, radiographs: list[Radiograph]
) -> None:
    for number, radiograph in enumerate(radiographs):
        watched.lay(radiograph, f"{'a/b/' * number}image {number}")
    assert watched.scan() == 0, "seen for the first time: somebody may still be writing"
    assert watched.scan() == 3
    assert watched.scan() == 0
    assert watched.names() == ["done/a/b/a/b/image 2", "done/a/b/image 1", "done/image 0"]
    assert {row.sop_instance_uid for row in watched.instances()} == {each.sop_instance_uid for each in radiographs}
    assert {row.calling_ae for row in watched.instances()} == {"IMPORT"}
    with watched.site.database.read() as session:
        assert len(session.scalars(select(Analysis)).all()) == 3


def test_file_that_is_still_being_written_is_left_until_it_rests(
    watched: Watched, radiographs: list[Radiograph]
) -> None:
    whole = radiographs[0].path.read_bytes()
    path = watched.folder / "image.dcm"
    with path.open("wb") as file:
        for start in range(0, len(whole), 500_000):
            file.write(whole[start : start + 500_000])
            file.flush()
            assert watched.scan() == 0
            assert path.exists()
    assert watched.scan(1) + watched.scan(3) == 1
    assert watched.refusals() == []


def test_copy_that_only_pauses_is_not_taken_for_a_damaged_file(watched: Watched, radiographs: list[Radiograph]) -> None:
    whole = radiographs[0].path.read_bytes()
    path = watched.folder / "image.dcm"
    path.write_bytes(whole[:700_000])
    assert [watched.scan(5) for _ in range(6)] == [0] * 6
    with path.open("ab") as file:
        file.write(whole[700_000:])
    assert watched.scan() + watched.scan() == 1
    assert watched.names() == ["done/image.dcm"]
    assert watched.refusals() == []


def test_what_cannot_be_stored_lies_in_failed_with_its_reason_and_is_recorded(
    watched: Watched, radiographs: list[Radiograph], tmp_path: Path
) -> None:
    (watched.folder / "letter.txt").write_text("Dear colleague")
    (watched.folder / "cut.dcm").write_bytes(radiographs[0].path.read_bytes()[:-1000])
    ct = chest(tmp_path / "ct", 5, SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    watched.lay(ct, "deep/ct.dcm")
    assert watched.rest() == 3
    assert watched.names("failed") == [
        "cut.dcm",
        "cut.dcm.reason.txt",
        "deep/ct.dcm",
        "deep/ct.dcm.reason.txt",
        "letter.txt",
        "letter.txt.reason.txt",
    ]
    assert "truncated" in (watched.folder / "failed/cut.dcm.reason.txt").read_text()
    assert len(watched.refusals()) == 3
    assert all(reason.startswith("import: ") and "letter" not in reason for reason in watched.refusals())
    (found,) = imports(Examined(watched.settings, (), now))
    assert (found.level, "3 files could not be imported" in found.detail) == ("warning", True)


@pytest.mark.parametrize(
    "name", [".image.dcm", "image.dcm.tmp", "image.PART", "image.partial", "image.dcm~", ".x/image.dcm"]
)
def test_unfinished_and_hidden_names_are_left_alone(watched: Watched, radiographs: list[Radiograph], name: str) -> None:
    path = watched.lay(radiographs[0], name)
    assert watched.rest() == 0
    path.rename(watched.folder / "image.dcm")
    assert watched.rest() == 1


def test_pipes_sockets_and_links_are_refused_without_being_opened_or_followed(
    watched: Watched, radiographs: list[Radiograph], tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "image.dcm").write_bytes(radiographs[0].path.read_bytes())
    os.mkfifo(watched.folder / "pipe")
    (watched.folder / "link").symlink_to(outside / "image.dcm")
    (watched.folder / "loop").symlink_to(watched.folder)
    (watched.folder / "itself").symlink_to("itself")
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(watched.folder)  # a socket's path must be short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    assert watched.rest() == 5
    assert (outside / "image.dcm").exists()
    assert watched.instances() == []
    assert sorted(watched.refusals()) == [
        "import: a pipe: only regular files are imported",
        "import: a socket: only regular files are imported",
        "import: a symbolic link, which is not followed: only regular files are imported",
    ]
    assert len(list((watched.folder / "failed").iterdir())) == 10


def test_unreadable_file_is_refused_with_the_systems_reason(
    watched: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.lay(radiographs[0], "image.dcm")
    opened = os.open

    def denied(path: str, *rest: int, **more: int) -> int:
        if str(path).endswith("image.dcm"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest, **more)

    monkeypatch.setattr("worker.intake.folder.scan.os.open", denied)
    assert watched.rest() == 1
    assert watched.refusals() == ["import: the file cannot be read (Permission denied)"]


def test_same_file_again_and_another_of_the_same_name_lose_nothing(
    watched: Watched, radiographs: list[Radiograph]
) -> None:
    for radiograph in (radiographs[0], radiographs[0], radiographs[1]):
        watched.lay(radiograph, "image.dcm")
        assert watched.rest() == 1
    assert len(watched.names("done")) == 3
    assert len(watched.instances()) == 2
    with watched.site.database.read() as session:
        assert len(session.scalars(select(Location)).all()) == 2


def test_done_files_are_deleted_where_the_site_says_so(
    site: Site, radiographs: list[Radiograph], tmp_path: Path
) -> None:
    watched = Watched(site, tmp_path / "watched", done="delete")
    watched.lay(radiographs[0], "image.dcm")
    (watched.folder / "letter").write_text("no image")
    assert watched.rest() == 2
    assert watched.names() == ["failed/letter", "failed/letter.reason.txt"]


def test_under_backpressure_files_wait_and_are_taken_when_it_ends(
    watched: Watched, radiographs: list[Radiograph]
) -> None:
    watched.lay(radiographs[0], "image.dcm")
    watched.free = 1000
    assert watched.rest() == 0
    assert watched.names() == ["image.dcm"]
    watched.free = 10**12
    assert watched.scan() == 1


def test_file_that_cannot_be_moved_away_is_taken_once(
    watched: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.lay(radiographs[0], "image.dcm")
    taken: list[object] = []
    receive = watched.intake.receive
    monkeypatch.setattr(watched.intake, "receive", lambda received: taken.append(received) or receive(received))

    renamed = Path.rename

    def read_only(self: Path, target: Path) -> Path:
        if self.is_relative_to(watched.folder):
            raise OSError(30, "Read-only file system")
        return renamed(self, target)

    monkeypatch.setattr(Path, "rename", read_only)
    assert watched.rest() == 1
    assert watched.rest() == 0
    assert len(taken) == 1
    assert watched.names() == ["image.dcm"]


def test_file_that_trips_over_a_fault_of_ours_costs_no_other(
    watched: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicom_io.receive.part10_files import examine_file

    poison = watched.lay(radiographs[0], "a.dcm").read_bytes()
    watched.lay(radiographs[1], "b.dcm")

    def trips(data: bytes) -> object:
        if data == poison:
            raise RuntimeError("quotes DOE^JOHN")
        return examine_file(data)

    monkeypatch.setattr("worker.intake.folder.watcher.examine_file", trips)
    assert watched.rest() == 2
    assert watched.names("done") == ["b.dcm"]
    assert (watched.folder / "failed/a.dcm.reason.txt").read_text() == "internal error: RuntimeError\n"


def test_file_larger_than_is_taken_is_refused_unread(
    watched: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.intake.folder.watcher._LARGEST", 1000)
    watched.lay(radiographs[0], "image.dcm")
    assert watched.rest() == 1
    assert "at most 1000 are imported" in watched.refusals()[0]


def test_two_watchers_of_one_folder_double_nothing(watched: Watched, radiographs: list[Radiograph]) -> None:
    other = watched.another()
    for number, radiograph in enumerate(radiographs):
        watched.lay(radiograph, f"{number}.dcm")
    for importer in (watched.importer, other):
        importer.scan()
    watched.time += 5
    assert watched.importer.scan() + other.scan() == 3
    assert watched.names() == ["done/0.dcm", "done/1.dcm", "done/2.dcm"]
    assert len(watched.instances()) == 3


def test_death_between_storing_and_moving_doubles_nothing(
    watched: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Death(BaseException):
        pass

    def dies(*_: object) -> None:
        raise Death

    watched.lay(radiographs[0], "image.dcm")
    watched.scan()
    with monkeypatch.context() as patch:
        patch.setattr(Importer, "_put_away", dies)
        with pytest.raises(Death):
            watched.scan()
    watched.importer = watched.another()
    assert watched.rest() == 1
    assert len(watched.instances()) == 1
    assert watched.names() == ["done/image.dcm"]


@pytest.mark.parametrize("place", [lambda home: home, lambda home: home.parent, lambda home: home / "store" / "in"])
def test_folder_that_holds_what_is_kept_is_refused(site: Site, place: Callable[[Path], Path]) -> None:
    with pytest.raises(ConfigurationError, match="must neither contain the home folder"):
        import_folder(with_folder(site, place(site.settings.home)))


def test_folder_that_is_not_there_is_said_by_the_doctor_and_waited_for(site: Site, tmp_path: Path) -> None:
    settings = with_folder(site, tmp_path / "away")
    (found,) = imports(Examined(settings, (), now))
    assert (found.level, found.check) == ("failed", "imports")
    intake = Intake(site, lambda _id: None)
    with pytest.raises(FileNotFoundError):
        Importer(settings, tmp_path / "away", intake).scan()
    (found,) = imports(Examined(site.settings, (), now))
    assert (found.level, found.detail) == ("ok", "no folder is watched ([imports] folder)")
