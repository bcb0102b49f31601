"""What a destination refused for good is offered again when a person says so, and only then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db.analysis import lifecycle
from db.delivery import objects, outbox
from db.intake.instances import record_instance
from db.model_registry import activation
from db.reasons import ReasonCode
from db.records import NewInstance
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import MODEL, NOON, heatmap
from tests.db.conftest import new_instance as new_instance
from worker.cli.app import app
from worker.installation import Site


@pytest.fixture
def refused(site: Site, new_instance: Callable[..., NewInstance]) -> Site:
    """A site with one object that its destination refused."""
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
        recorded = record_instance(session, new_instance())
        assert recorded.analysis_id is not None
        claimed = lifecycle.claim(session, recorded.analysis_id, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        lifecycle.complete(session, claimed, result(), NOON)
        objects.record(session, heatmap(claimed), NOON)
        (item,) = outbox.claim_batch(session, "pacs", owner="d", now=NOON, lease=LEASE, limit=9)
        outbox.mark_failed(session, item, "status A900", ReasonCode.PEER_STATUS)
    return site


def run(site: Site, name: str, folder: Path) -> tuple[int, str]:
    configuration = folder / "site.toml"
    configuration.write_text(
        '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\n', encoding="utf-8"
    )
    words = ["redeliver", name, "--json", "--home", str(site.settings.home), "--config", str(configuration)]
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.stdout or str(done.exception)


def test_refused_objects_are_due_again_once(refused: Site, tmp_path: Path) -> None:
    for expected in (1, 0):
        code, output = run(refused, "pacs", tmp_path)
        assert (code, json.loads(output)) == (0, {"destination": "pacs", "offered_again": expected})
    with refused.database.write() as session:
        assert (
            len(outbox.claim_batch(session, "pacs", owner="d", now=NOON.replace(year=2999), lease=LEASE, limit=9)) == 1
        )


def test_unknown_destination_is_said_with_those_there_are(refused: Site, tmp_path: Path) -> None:
    code, output = run(refused, "pax", tmp_path)
    assert code != 0
    assert "no destination is named 'pax'; there are: self, pacs" in output
