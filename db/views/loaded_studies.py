"""Studies with the rows that every view of them is made of, each table asked once for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from db.analysis.current_result import findings_of, model_digests, shown
from db.engine.session import Session
from db.intake.gate_decisions import history
from db.intake.misfiled_instances import MisfiledInstance, misfiled_instances_of
from db.model_registry.activation import active_models
from db.model_registry.scope import ActiveModels
from db.records import Decision, FindingRecord
from db.tables.analyses import Analysis
from db.tables.studies import Instance, Study


@dataclass(frozen=True)
class LoadedStudies:
    """Instances and misfiled instances by the id of their study, decisions (the one that counts last) and the analysis
    shown by the id of their instance, findings by the id of their analysis.
    """

    models: ActiveModels
    instances: dict[int, list[Instance]]
    decisions: dict[int, list[Decision]]
    analyses: dict[int, Analysis]
    findings: defaultdict[int, list[FindingRecord]]
    misfiled: dict[int, tuple[MisfiledInstance, ...]]


def load_studies(session: Session, studies: Sequence[Study]) -> LoadedStudies:
    """Load what belongs to these studies, of which there are some hundred at most."""
    ids = [study.id for study in studies]
    every = session.scalars(select(Instance).where(Instance.study_id.in_(ids)).order_by(Instance.id)).all()
    instances: dict[int, list[Instance]] = defaultdict(list)
    for instance in every:
        instances[instance.study_id or 0].append(instance)
    of_images = [instance.id for instance in every]
    models = active_models(session)
    rows = session.scalars(select(Analysis).where(Analysis.instance_id.in_(of_images)).order_by(Analysis.id))
    analyses = shown(rows, model_digests(every, models))
    return LoadedStudies(
        models=models,
        instances=instances,
        decisions=history(session, of_images),
        analyses=analyses,
        findings=findings_of(session, [analysis.id for analysis in analyses.values()]),
        misfiled=misfiled_instances_of(session, ids),
    )
