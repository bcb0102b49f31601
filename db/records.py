"""What this room takes and gives: frozen values, never rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Queue = Literal["live", "batch"]
LIVE: Queue = "live"  # what has just arrived: always before everything else
BATCH: Queue = "batch"


@dataclass(frozen=True)
class Queued:
    """A pending analysis, and the queue that its row names."""

    id: int
    queue: Queue


@dataclass(frozen=True)
class Triage:
    """A study's rank on the worklist; the larger ``reading_key``, the earlier it is read."""

    priority: Literal["HIGH", "MEDIUM", "LOW"]
    score: float
    reading_key: float


@dataclass(frozen=True)
class StudyIdentity:
    """Patient and order attributes, decoded; an empty string where the source had none."""

    study_instance_uid: str
    patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""


@dataclass(frozen=True)
class Decision:
    """What the admission gate said of one instance, by which rule, on which facts; or a person, in `decided_by`."""

    rules_version: str
    accepted: bool
    rule: str
    reason: str
    facts: dict[str, Any]
    flags: tuple[str, ...]
    decided_by: str = ""
    decided_at: datetime | None = None  # once it is recorded


@dataclass(frozen=True)
class NewInstance:
    """One received instance whose bytes are already durable."""

    study: StudyIdentity
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    origin: Literal["live", "archive"]
    calling_ae: str
    correlation_id: str
    uri: str
    sha256: str
    size: int
    age_years: float | None
    view: str | None
    decision: Decision
    triage: Triage  # of a study that is new
    received_at: datetime
    priority: int = 0  # of its analysis within its queue; the smaller, the earlier
    job_id: int | None = None  # the job that brought it, of an archive


@dataclass(frozen=True)
class Recorded:
    """What became of a `NewInstance`. ``queued`` is set where work was created."""

    outcome: Literal["new", "same", "different"]
    instance_id: int
    queued: Queued | None

    @property
    def analysis_id(self) -> int | None:
        return None if self.queued is None else self.queued.id


@dataclass(frozen=True)
class ActiveModel:
    digest: str
    name: str
    folder: str
    preprocessing_id: str


@dataclass(frozen=True)
class ClaimedAnalysis:
    """One analysis under lease, with all that reading it needs; ``claim`` is the token that ends the lease."""

    id: int
    claim: str
    instance_id: int
    study_id: int
    study_instance_uid: str
    sop_instance_uid: str
    uri: str
    sha256: str
    model_digest: str
    preprocessing_id: str
    attempts: int
    faults: int  # of machines, in a row, before this claim
    created_at: datetime
    received_at: datetime
    correlation_id: str
    age_years: float | None
    view: str | None
    flags: tuple[str, ...]  # of the instance and of the gate


@dataclass(frozen=True)
class FindingRecord:
    label: str
    probability: float
    logit: float
    threshold: float
    positive: bool


@dataclass(frozen=True)
class ObjectKey:
    """What an object is, through all its revisions; ``subject_uid`` is of the image or the study it speaks of."""

    kind: str
    subject_uid: str
    model_digest: str
    preprocessing_id: str
    label: str
    variant: str


@dataclass(frozen=True)
class ObjectRecord:
    """A made object whose bytes are already durable at ``uri``; ``analyses`` are what it is made of."""

    key: ObjectKey
    revision: int
    inputs_digest: str
    study_id: int
    analyses: tuple[int, ...]
    sop_instance_uid: str
    uri: str
    sha256: str
    size: int
    created_at: datetime
    destinations: tuple[str, ...]


@dataclass(frozen=True)
class AnalysisResult:
    engine: str
    precision: str
    application_version: str
    ood_score: float | None
    flags: tuple[str, ...]
    outside_domain: bool
    record: dict[str, Any]
    findings: tuple[FindingRecord, ...]
    maps: bytes
    affine: tuple[float, ...]


@dataclass(frozen=True)
class ClaimedDelivery:
    """One object to be sent, under lease; ``claim`` is the token that ends the lease."""

    id: int
    claim: str
    uri: str
    sha256: str
    sop_instance_uid: str
    attempts: int


@dataclass(frozen=True)
class WorklistItem:
    """One study as the worklist shows it; ``findings`` are the maxima over its accepted frontal images."""

    study_instance_uid: str
    accession_number: str
    patient_id: str
    patient_name: str
    study_date: str
    priority: str
    score: float
    arrived_at: datetime
    state: str
    reason: str
    flags: tuple[str, ...]
    findings: tuple[FindingRecord, ...]
    model: str
    reason_code: str  # of `db.reasons.ReasonCode`
    latest_at: datetime | None  # when something was last heard of it; none: only an archive has it


@dataclass(frozen=True)
class Unfinished:
    sop_instance_uid: str
    state: str
    reason: str
    since: datetime
    reason_code: str  # of `db.reasons.ReasonCode`


@dataclass(frozen=True)
class Ledger:
    received: int
    done: int
    not_applicable: int
    failed: int
    pending: int
    rejected: int
    deliveries: dict[str, int]
    unfinished: tuple[Unfinished, ...]
    unfinished_total: int  # of which ``unfinished`` lists the oldest
    reasons: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)  # how many each rule of the gate refused
    commitments: dict[str, int] = field(default_factory=dict)  # requests for storage commitment: asked = the others
