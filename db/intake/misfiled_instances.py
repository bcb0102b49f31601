"""Instances that name one study and bear the UID of another's image: kept with that image, found from both.

Their bytes are read and shown under neither: under the first study they are not what was read, and under the one they
name nobody knows whether they are its own or the first study's image with a wrong label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from db.engine.session import Session
from db.tables.studies import Instance, Location, MisfiledLocation, Study

MISFILED = "an image came under the UID of another study's image"
NOTHING_LEFT = "no image of this study is here any more"


@dataclass(frozen=True)
class MisfiledInstance:
    """Bytes that name a study under an image's UID that `holder`, the study of this UID, had before."""

    received_at: datetime
    calling_ae: str
    size: int
    sha256: str
    holder: str


def misfiled_instances_of(session: Session, study_ids: Sequence[int]) -> dict[int, tuple[MisfiledInstance, ...]]:
    """Return the instances that name each of these studies and are kept with another's, in order of arrival."""
    found: dict[int, list[MisfiledInstance]] = defaultdict(list)
    for study_id, location, holder in session.execute(
        select(MisfiledLocation.study_id, Location, Study.study_instance_uid)
        .join(Location, Location.id == MisfiledLocation.location_id)
        .join(Instance, Instance.id == Location.instance_id)
        .join(Study, Study.id == Instance.study_id)
        .where(MisfiledLocation.study_id.in_(study_ids))
        .order_by(MisfiledLocation.location_id)
    ):
        found[study_id].append(
            MisfiledInstance(location.received_at, location.calling_ae, location.size, location.sha256, holder)
        )
    return {study_id: tuple(each) for study_id, each in found.items()}


def misfiled_note(instances: Sequence[MisfiledInstance]) -> str:
    """Say where the instances of a study are that were not read as its own; empty where there are none."""
    holders = ", ".join(dict.fromkeys(each.holder for each in instances))
    return f"{MISFILED}, study {holders}: kept there, not read" if instances else ""
