"""An active bundle whose folder is gone is found again where this program has it, by its digest."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from db.model_registry.activation import active_models, note_moved
from worker.cli.app import app
from worker.installation import Site
from worker.model_registry.bundles import activate
from worker.monitoring.health import health_facts
from worker.standalone.up import _active_names


def folder_of_active(site: Site) -> str:
    with site.database.read() as session:
        return active_models(session).models[0].folder


def test_program_installed_elsewhere_reads_its_own_copy(site: Site, broker: None, bundle_folder: Path) -> None:
    digest = activate(site, "demonstration").digest
    with site.database.write() as session:
        note_moved(session, digest, str(bundle_folder), "/opt/former/demonstration")
    assert health_facts(site)["ready"] is False
    done = CliRunner().invoke(app, ["db", "upgrade", "--home", str(site.settings.home)])
    assert f"model demonstration is read from {bundle_folder} now" in done.stdout.replace("\n", "")
    assert folder_of_active(site) == str(bundle_folder)
    assert health_facts(site)["ready"] is True


@pytest.mark.parametrize("shipped", [True, False])
def test_start_finds_it_or_says_that_it_is_gone(
    site: Site, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, shipped: bool
) -> None:
    moved = tmp_path / "models" / "moved"
    shutil.copytree(bundle_folder, moved)
    digest = activate(site, "demonstration").digest
    with site.database.write() as session:
        note_moved(session, digest, str(bundle_folder), "/opt/former/demonstration")
    monkeypatch.setattr(
        "worker.model_registry.bundles.bundle_folders", lambda settings: [moved.parent] if shipped else []
    )
    said = io.StringIO()
    assert _active_names(site, Console(file=said, width=400)) == "demonstration"
    if shipped:
        assert f"model demonstration is read from {moved} now" in said.getvalue()
        assert folder_of_active(site) == str(moved)
    else:
        assert "demonstration is gone from /opt/former/demonstration: what it reads waits" in said.getvalue()
        assert folder_of_active(site) == "/opt/former/demonstration"


def test_another_activation_meanwhile_stands(site: Site, bundle_folder: Path) -> None:
    digest = activate(site, "demonstration").digest
    with site.database.write() as session:
        note_moved(session, digest, "/opt/former/demonstration", "/opt/new/demonstration")
    assert folder_of_active(site) == str(bundle_folder)
