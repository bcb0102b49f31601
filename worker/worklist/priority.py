"""From findings to a rank on the worklist: a score, a priority, and a stored key with linear ageing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from db.analysis import lifecycle
from db.analysis.current_result import study_findings
from db.engine.session import Session
from db.records import Triage
from worker.config.settings import Settings

ROUTINE = 0.5  # the score of a study about which nothing may be said: neither before nor after its turn
_POSITIVE = 0.5


class Judged(Protocol):
    """A finding: a probability beside the threshold that makes it positive."""

    @property
    def probability(self) -> float: ...
    @property
    def threshold(self) -> float: ...
    @property
    def positive(self) -> bool: ...


def score(findings: Sequence[Judged]) -> float:
    """Return the study's score in [0, 1]: 0.5 where its strongest finding stands at its threshold.

    Probabilities of different labels are compared by how far they are between 0, their threshold and 1, so that a
    label with a low threshold weighs as much as one with a high threshold. A finding that reaches its threshold and
    yet is not positive was not trained for this patient's age, and raises nothing.
    """
    margins = (_margin(finding.probability, finding.threshold) for finding in findings if is_counted(finding))
    return max(margins, default=ROUTINE)


def is_counted(finding: Judged) -> bool:
    """Whether a finding may say anything: it is below its threshold, or positive."""
    return finding.positive or finding.probability < finding.threshold


def _margin(probability: float, threshold: float) -> float:
    if probability >= threshold:
        return _POSITIVE + 0.5 * (probability - threshold) / max(1.0 - threshold, 1e-9)
    return 0.5 * probability / max(threshold, 1e-9)


def triage_for(study_score: float | None, arrived_at: datetime, horizon_hours: float) -> Triage:
    """Return a study's rank; ``study_score`` None where no result inside the model's domain exists.

    HIGH: a finding at or above its threshold. LOW: all below. MEDIUM: no opinion (not read yet, refused, or outside the
    training domain, which never raises a priority).
    """
    value = ROUTINE if study_score is None else study_score
    priority = "MEDIUM" if study_score is None else "HIGH" if study_score >= _POSITIVE else "LOW"
    key = value * horizon_hours * 3600.0 - arrived_at.timestamp()
    return Triage(priority=priority, score=value, reading_key=key)  # type: ignore[arg-type]  # one of the three, above


def rank_study(session: Session, study_id: int, horizon_hours: float) -> Triage:
    """Rank a study by what is known of it now, in the caller's transaction.

    Of each image the result of the model that reads it now counts: a reading queued before another model was activated
    may end after that one's.
    """
    findings, _any_done, inside = study_findings(session, study_id)
    triage = triage_for(
        score(findings) if inside and any(map(is_counted, findings)) else None,
        lifecycle.arrival(session, study_id),
        horizon_hours,
    )
    lifecycle.rank(session, study_id, triage)
    return triage


def ranking(settings: Settings) -> Callable[[Session, int], Triage]:
    """Return what ranks a study by its id, as configured."""
    return partial(rank_study, horizon_hours=settings.triage.horizon_hours)
