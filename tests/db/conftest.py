"""A fresh database with its schema, on SQLite and on PostgreSQL, and makers of what goes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from db.engine.schema import prepare
from db.engine.session import Database, sqlite_url
from db.model_registry import activation
from db.records import (
    ActiveModel,
    ClaimedAnalysis,
    Decision,
    NewInstance,
    ObjectKey,
    ObjectRecord,
    StudyIdentity,
    Triage,
)

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MODEL = ActiveModel(digest="a" * 64, name="first", folder="/models/first", preprocessing_id="squash")


def heatmap(claimed: ClaimedAnalysis, **changes: object) -> ObjectRecord:
    """A heatmap made of an analysis, for the destination ``pacs``."""
    values: dict[str, Any] = {
        "key": ObjectKey(
            "heatmap", claimed.sop_instance_uid, claimed.model_digest, claimed.preprocessing_id, "Pneumonia", ""
        ),
        "revision": 1,
        "inputs_digest": "f" * 64,
        "study_id": claimed.study_id,
        "analyses": (claimed.id,),
        "sop_instance_uid": f"2.25.{claimed.id}",
        "uri": "store:o",
        "sha256": "e" * 64,
        "size": 5,
        "created_at": claimed.created_at,
        "destinations": ("pacs",),
    }
    return ObjectRecord(**{**values, **changes})


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = Database(sqlite_url(tmp_path / "test.sqlite"))
    else:
        opened = Database(request.getfixturevalue("postgres").database())
    prepare(opened, NOON)
    yield opened
    opened.dispose()


@pytest.fixture
def with_model(database: Database) -> Database:
    with database.write() as session:
        activation.activate(session, MODEL, NOON)
    return database


@pytest.fixture
def new_instance() -> Callable[..., NewInstance]:
    def make(number: int = 1, *, study: int = 1, accepted: bool = True, **changes: object) -> NewInstance:
        values: dict[str, Any] = {
            "study": StudyIdentity(study_instance_uid=f"1.2.{study}", patient_id="P1", patient_name="A^B"),
            "sop_instance_uid": f"1.2.3.{number}",
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1",
            "series_instance_uid": "1.2.4",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "origin": "live",
            "calling_ae": "MODALITY",
            "correlation_id": "00000000-0000-0000-0000-000000000000",
            "uri": f"store:aa/bb/{number}.dcm",
            "sha256": f"{number:064x}",
            "size": 10,
            "age_years": 40.0,
            "view": "PA",
            "decision": Decision("1", accepted, "region", "" if accepted else "not a chest", {}, ()),
            "triage": Triage("MEDIUM", 0.5, 0.0),
            "received_at": NOON,
        }
        return NewInstance(**{**values, **changes})

    return make
