"""Which result of an image every interface shows, and what a study's images say together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import select

from db.engine.session import Session
from db.model_registry.activation import active_models
from db.model_registry.scope import ActiveModels
from db.records import FindingRecord
from db.tables.analyses import Analysis, Finding
from db.tables.studies import Instance, Study


class OfModel(Protocol):
    """An analysis as far as it is chosen by: of which image, with which model."""

    @property
    def instance_id(self) -> int: ...
    @property
    def model_digest(self) -> str: ...


Row = TypeVar("Row", bound=OfModel)


def model_digests(instances: Iterable[Instance], models: ActiveModels) -> dict[int, str]:
    """Per instance id, the digest of the active model that reads it."""
    chosen = ((each.id, models.model_for(each.age_years, each.view)) for each in instances)
    return {instance_id: model.digest for instance_id, model in chosen if model is not None}


def shown(rows: Iterable[Row], wanted: Mapping[int, str]) -> dict[int, Row]:
    """Per instance id, the analysis shown: of the model that reads it (`model_digests`), else the newest.

    ``rows``: oldest first.
    """
    chosen: dict[int, Row] = {}
    for row in rows:
        before = chosen.get(row.instance_id)
        if before is None or before.model_digest != wanted.get(row.instance_id):
            chosen[row.instance_id] = row
    return chosen


def study_findings(session: Session, study_id: int) -> tuple[tuple[FindingRecord, ...], bool, bool]:
    """Return the maxima over the study's images inside their model's domain, if any is done, if any is inside.

    Of an image read by several models, the result of the one that reads it now counts, else the newest: what the
    worklist shows. The study's row is locked, so that two images of one study cannot rank it past each other.
    """
    session.execute(select(Study.id).where(Study.id == study_id).with_for_update(key_share=True))
    instances = session.scalars(select(Instance).where(Instance.study_id == study_id)).all()
    rows = session.scalars(
        select(Analysis).where(Analysis.instance_id.in_([each.id for each in instances])).order_by(Analysis.id)
    ).all()
    # not the shown ones of those done: where the model that reads it now failed, no former one's word ranks the study
    read = shown(rows, model_digests(instances, active_models(session))).values()
    done = [analysis for analysis in read if analysis.state == "done"]
    inside = [analysis.id for analysis in done if not analysis.outside_domain]
    findings = findings_of(session, inside)
    return maxima(finding for each in sorted(inside) for finding in findings[each]), bool(done), bool(inside)


def findings_of(session: Session, analysis_ids: Sequence[int]) -> defaultdict[int, list[FindingRecord]]:
    """Return the findings of these analyses by their id, in the labels' own order."""
    findings: defaultdict[int, list[FindingRecord]] = defaultdict(list)
    for row in session.scalars(
        select(Finding).where(Finding.analysis_id.in_(analysis_ids)).order_by(Finding.analysis_id, Finding.position)
    ):
        record = FindingRecord(row.label, row.probability, row.logit, row.threshold, row.positive)
        findings[row.analysis_id].append(record)
    return findings


def maxima(findings: Iterable[FindingRecord]) -> tuple[FindingRecord, ...]:
    """Per label, the finding with the greatest probability, in the labels' own order."""
    best: dict[str, FindingRecord] = {}
    for finding in findings:
        if finding.label not in best or finding.probability > best[finding.label].probability:
            best[finding.label] = finding
    return tuple(best.values())
