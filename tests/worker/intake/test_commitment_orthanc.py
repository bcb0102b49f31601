"""Orthanc asks for storage commitment; and two listeners on one database and store take the same images at once."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dicom_io.network.association import Peer
from dicom_io.send.storage_scu import Outgoing, send
from tests.peers.orthanc import Orthanc
from tests.peers.postgres import Postgres
from tests.peers.processes import wait_until
from tests.peers.programs import free_port
from tests.peers.radiographs import sample
from tests.worker.intake.test_commitment_scp import CR, committing_site, states
from worker.config.settings import DatabaseSettings, Dicom, KnownPeer, Settings
from worker.installation import Site


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_site(request: pytest.FixtureRequest, site: Site) -> Iterator[Site]:
    if request.param == "sqlite":
        yield site
        return
    server: Postgres = request.getfixturevalue("postgres")
    other = Site(site.settings.model_copy(update={"database": DatabaseSettings(url=server.database())}))
    yield other
    other.database.dispose()


def _settings(site: Site, port: int = 0, peers: tuple[KnownPeer, ...] = ()) -> Settings:
    return site.settings.model_copy(update={"dicom": Dicom(host="127.0.0.1", port=port), "peers": peers})


@pytest.mark.peer
def test_orthanc_is_told_what_is_committed_and_what_is_not(site: Site, tmp_path: Path) -> None:
    port = free_port()
    with Orthanc(tmp_path / "orthanc", known={"cxr": ("CXRTRIAGE", port)}) as pacs:
        settings = _settings(site, port, (KnownPeer(ae_title="PACS", host="127.0.0.1", port=pacs.dicom_port),))
        with committing_site(site, settings):
            image = sample("RG1_UNCR")
            (outcome,) = send(Peer("CXRTRIAGE", "127.0.0.1", port), [Outgoing("image", image)])
            assert outcome.result == "stored"
            with site.database.read() as session:
                from sqlalchemy import text

                sop_class, instance = session.execute(
                    text("SELECT sop_class_uid, sop_instance_uid FROM instance")
                ).one()
            for references, status in (
                ([[sop_class, instance]], "Success"),
                ([[sop_class, instance], [CR, "1.2.3.404"]], "Failure"),
            ):
                assert _outcome(pacs, references, status)
            wait_until(lambda: states(site) == {"reported": 2}, 60, "reported")


def _outcome(pacs: Orthanc, references: list[list[str]], status: str) -> bool:
    body = json.dumps({"DicomInstances": references}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{pacs.http_port}/modalities/cxr/storage-commitment", data=body)
    with urllib.request.urlopen(request, timeout=60) as answer:
        path = json.load(answer)["Path"]
    wait_until(lambda: pacs.get(path)["Status"] != "Pending", 60, "told")
    told = pacs.get(path)
    assert told["Status"] == status, told
    return len(told.get("Success", [])) == 1


def test_two_listeners_on_one_database_take_the_same_images_at_once(shared_site: Site) -> None:
    images = [sample(name) for name in ("RG1_UNCR", "RG3_UNCR", "RG1_J2KR", "RG3_J2KR")]
    outcomes: list[str] = []
    with ExitStack() as stack:
        listeners = [stack.enter_context(committing_site(shared_site, _settings(shared_site))) for _ in range(2)]
        assert listeners[0].port != listeners[1].port

        def deliver(port: int) -> None:
            files = [Outgoing(path.name, path) for path in images]
            outcomes.extend(outcome.result for outcome in send(Peer("CXRTRIAGE", "127.0.0.1", port), files))

        threads = [threading.Thread(target=deliver, args=(listeners[n % 2].port,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert outcomes == ["stored"] * 24
    from sqlalchemy import text

    with shared_site.database.read() as session:
        rows = session.execute(
            text("SELECT i.sop_instance_uid, l.sha256, l.uri FROM instance i JOIN location l ON l.instance_id = i.id")
        ).all()
        studies = session.execute(text("SELECT count(*), count(DISTINCT study_instance_uid) FROM study")).one()
        decisions = session.execute(text("SELECT count(*) FROM gate_decision")).scalar()
    instances = {row[0] for row in rows}
    assert decisions == len(instances), "one decision an instance"
    assert studies[0] == studies[1]
    assert len({(row[0], row[1]) for row in rows}) == len(rows), "no copy is kept twice"
    assert len({row[1] for row in rows}) == 4, "and none of the four is lost"
    assert all(shared_site.store.whole(row[2], row[1]) for row in rows)
