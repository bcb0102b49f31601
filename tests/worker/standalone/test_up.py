"""What `up` refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.programs import free_port
from worker.config.settings import load_settings
from worker.installation import Site
from worker.runtime.ports import StartFailed
from worker.standalone.up import run_up


@pytest.mark.parametrize("section", ["dicom", "web"])
def test_port_that_nobody_could_find_is_refused_at_once(tmp_path: Path, section: str) -> None:
    config = tmp_path / "site.toml"
    ports = {"dicom": free_port(), "web": free_port(), section: 0}
    config.write_text("".join(f"[{name}]\nport = {port}\n" for name, port in ports.items()), encoding="utf-8")
    site = Site(load_settings(config, tmp_path / "home"))
    with pytest.raises(StartFailed, match=rf"\[{section}\] port is 0"):
        run_up(site, tmp_path / "home", config, demonstrate=False)
    assert not (tmp_path / "home" / "log").exists()
