"""Only the file that was read is put away: one that took its place is imported, and no name is taken from another."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.peers.radiographs import Radiograph, chests
from tests.worker.intake.folder.test_watcher import Watched
from worker.installation import Site
from worker.intake.folder import moves
from worker.intake.folder.scan import ASIDE


class Death(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> list[Radiograph]:
    return list(chests(tmp_path_factory.mktemp("images"), 2))


@pytest.fixture(params=["keep", "delete"])
def watched(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Watched:
    return Watched(site, tmp_path / "watched", done=request.param)


@pytest.fixture
def kept(site: Site, tmp_path: Path) -> Watched:
    return Watched(site, tmp_path / "watched")


def replacing(watched: Watched, monkeypatch: pytest.MonkeyPatch, second: Radiograph) -> None:
    """While the first image is received, rename a second one over it."""
    receive, calls = watched.intake.receive, count()

    def replaced(received: object) -> object:
        if next(calls) == 0:
            watched.lay(second, "image.part").rename(watched.folder / "image.dcm")
        return receive(received)  # type: ignore[arg-type]

    monkeypatch.setattr(watched.intake, "receive", replaced)


def imported(watched: Watched) -> list[str]:
    return sorted(each.sop_instance_uid for each in watched.instances())


def uids(radiographs: list[Radiograph]) -> list[str]:
    return sorted(each.sop_instance_uid for each in radiographs)


def test_image_that_replaced_another_while_that_was_received_is_imported_too(
    watched: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.lay(radiographs[0], "image.dcm")
    replacing(watched, monkeypatch, radiographs[1])
    assert watched.rest() >= 1
    watched.rest()
    assert imported(watched) == uids(radiographs)
    assert watched.names() == (["done/image.dcm"] if watched.settings.imports.done == "keep" else [])
    assert watched.refusals() == []


def test_third_image_of_the_name_is_not_overwritten_when_the_second_is_put_back(
    watched: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_aside = moves.set_aside

    def and_another_comes(path: Path) -> Path:
        aside = set_aside(path)
        (watched.folder / "letter").write_text("third")
        (watched.folder / "letter").rename(path)
        return aside

    watched.lay(radiographs[0], "image.dcm")
    replacing(watched, monkeypatch, radiographs[1])
    watched.scan()
    with monkeypatch.context() as patch:
        patch.setattr("worker.intake.folder.watcher.set_aside", and_another_comes)
        watched.scan()
    assert len(watched.names()) == 2
    assert (watched.folder / "image.dcm").read_text() == "third"
    watched.rest()
    assert imported(watched) == uids(radiographs)
    assert (watched.folder / "failed/image.dcm").read_text() == "third"


@pytest.mark.parametrize("step", ["lstat", "link", "unlink"])
@pytest.mark.parametrize("is_replaced", [False, True])
def test_death_at_any_step_of_putting_away_loses_nothing(
    watched: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch, step: str, is_replaced: bool
) -> None:
    watched.lay(radiographs[0], "image.dcm")
    if is_replaced:
        replacing(watched, monkeypatch, radiographs[1])
    else:
        watched.lay(radiographs[1], "other.dcm")
    watched.scan()
    with monkeypatch.context() as patch:
        dying(patch, step)
        try:
            watched.scan()
        except Death:
            assert any(Path(name).name.startswith(ASIDE) for name in watched.names())
    watched.importer = watched.another()
    watched.rest()
    watched.rest()
    assert imported(watched) == uids(radiographs)
    assert all(name.startswith("done/") for name in watched.names())


def dying(patch: pytest.MonkeyPatch, step: str) -> None:
    """Let the process die at the first such call on a file that is set aside."""

    def dies(call: Callable[..., object]) -> Callable[..., object]:
        def instead(path: Path, *rest: object, **more: object) -> object:
            if path.name.startswith(ASIDE):
                raise Death
            return call(path, *rest, **more)

        return instead

    place: object = os if step == "link" else Path
    patch.setattr(place, step, dies(getattr(place, step)))


def test_two_watchers_that_put_away_one_name_at_once_keep_both(
    kept: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's file comes to lie there at the last moment: after any look, before ours."""
    link = os.link

    def late(source: Path, target: Path, **more: bool) -> None:
        if target.name == "image.dcm" and not target.exists():
            target.write_text("the other's")
        link(source, target, **more)

    monkeypatch.setattr(os, "link", late)
    kept.lay(radiographs[0], "image.dcm")
    (kept.folder / "deep").mkdir()
    (kept.folder / "deep/image.dcm").write_text("no image")
    kept.rest()
    for folder, count_of in (("done", 2), ("failed/deep", 2 + 1)):
        assert (kept.folder / folder / "image.dcm").read_text() == "the other's"
        assert len(kept.names(folder)) == count_of
    (ours,) = [name for name in kept.names("failed/deep") if name.endswith("-image.dcm")]
    assert (kept.folder / "failed/deep" / f"{ours}.reason.txt").exists()


def test_reason_of_another_is_not_overwritten(kept: Watched) -> None:
    (kept.folder / "failed").mkdir()
    (kept.folder / "failed/letter.reason.txt").write_text("the other's")
    (kept.folder / "letter").write_text("no image")
    kept.rest()
    assert (kept.folder / "failed/letter.reason.txt").read_text() == "the other's"
    assert len(kept.names("failed")) == 3


def test_where_no_link_can_be_made_nothing_is_overwritten_either(
    watched: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    watched.lay(radiographs[0], "image.dcm")
    replacing(watched, monkeypatch, radiographs[1])
    watched.rest()
    watched.lay(radiographs[0], "image.dcm")
    watched.rest()
    (watched.folder / "letter").write_text("no image")
    watched.rest()
    assert imported(watched) == uids(radiographs)
    assert len(watched.names()) == 2 + 2 * (watched.settings.imports.done == "keep")
    assert (watched.folder / "failed/letter").read_text() == "no image"


def test_what_was_set_aside_but_cannot_be_moved_on_is_put_back_and_taken_once(
    kept: Watched, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.intake.folder.watcher.place", full)
    kept.lay(radiographs[0], "image.dcm")
    assert kept.rest() == 1
    assert kept.rest() == 0
    assert kept.names() == ["image.dcm"]
