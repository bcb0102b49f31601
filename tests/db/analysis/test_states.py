"""The stored states are those that the rows behind them make, whatever happened to these, in whatever order."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from db.analysis import lifecycle
from db.analysis.planning import create_missing, keep_current, retarget
from db.engine.session import Database, Session
from db.engine.tallies import add_up
from db.intake import gate_decisions
from db.intake.instances import record_instance
from db.model_registry import activation
from db.model_registry.activation import active_models
from db.model_registry.scope import ModelScope
from db.reasons import ReasonCode
from db.records import ClaimedAnalysis, Decision, NewInstance
from db.retention import erasure
from db.tables.analyses import Analysis
from db.tables.gate import GateDecision
from db.tables.studies import Instance, MisfiledLocation, Study
from db.views.ledger import ledger, refused_by_rule
from db.views.metrics import measure
from db.views.worklist import worklist
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import MODEL, NOON

Make = Callable[..., NewInstance]
CHILD = replace(MODEL, digest="c" * 64, name="children")


def states_by_rows(session: Session) -> tuple[dict[int, str], dict[int, bool], dict[int, str]]:
    """The states of images, whether their results are outside the domain, and of studies: worked out from the rows."""
    models = active_models(session)
    images: dict[int, str] = {}
    outside: dict[int, bool] = {}
    of_study: dict[int, list[str]] = {number: [] for number in session.scalars(select(Study.id))}
    for instance in session.scalars(select(Instance).execution_options(populate_existing=True)):
        decision = session.scalars(
            select(GateDecision)
            .where(GateDecision.instance_id == instance.id, GateDecision.current.is_(True))
            .execution_options(populate_existing=True)
        ).one()
        analyses = session.scalars(
            select(Analysis)
            .where(Analysis.instance_id == instance.id)
            .order_by(Analysis.id)
            .execution_options(populate_existing=True)
        ).all()
        reader = models.model_for(instance.age_years, instance.view)
        own = [each for each in analyses if reader is not None and each.model_digest == reader.digest]
        shown = next(iter(own), analyses[-1] if analyses else None)
        state = "pending" if shown is None else shown.state
        images[instance.id] = state if decision.accepted else "refused"
        outside[instance.id] = bool(decision.accepted and shown and state == "done" and shown.outside_domain)
        of_study[instance.study_id or 0].append(images[instance.id])
    studies = {
        number: next((state for state in ("running", "pending", "done", "failed") if state in found), "not_applicable")
        for number, found in of_study.items()
    }
    return images, outside, studies


def check(database: Database, said: str = "") -> None:
    with database.read() as session:
        images, outside, studies = states_by_rows(session)
        assert {each.id: each.state for each in session.scalars(select(Instance))} == images, said
        assert {each.id: each.outside_domain for each in session.scalars(select(Instance))} == outside, said
        assert {each.id: each.ai_state for each in session.scalars(select(Study))} == studies, said
        live = dict(session.execute(select(Instance.id, Instance.origin)).all())
        counts = Counter(state for number, state in images.items() if live[number] == "live")
        book, measures = ledger(session, NOON + timedelta(days=9)), measure(session, NOON, LEASE, 1)
        refused = counts.pop("refused", 0)
        assert (book.received, book.done, book.failed) == (counts.total() + refused, counts["done"], counts["failed"])
        assert book.pending == counts["pending"] + counts["running"]
        assert book.not_applicable == counts["not_applicable"] + refused
        assert sum(refused_by_rule(session).values()) == sum(book.reasons.values()) == refused
        assert measures.instances == {**dict.fromkeys(measures.instances, 0), **counts} | {
            "not_applicable": book.not_applicable
        }
        assert measures.outside_domain == sum(outside[number] for number, origin in live.items() if origin == "live")
        assert len(book.unfinished) == book.unfinished_total == book.pending + book.failed
        sent = set(session.scalars(select(Instance.study_id).where(Instance.origin == "live")))
        sent |= set(session.scalars(select(MisfiledLocation.study_id)))
        listed = session.scalars(select(Study).where(Study.latest_at.is_not(None))).all()
        assert sent <= {each.id for each in listed}, said
        by_uid = {each.study_instance_uid: each.ai_state for each in listed}
        assert {item.study_instance_uid: item.state for item in worklist(session)} == by_uid, said


class Life:
    """What may happen to a handful of studies; each step is one transaction, but a change of models."""

    def __init__(self, database: Database, make: Make, seed: int) -> None:
        self.database, self.make, self.chance = database, make, random.Random(seed)
        self.received, self.written = 0, 0
        self.held: list[ClaimedAnalysis] = []
        self.steps: list[Callable[[Session], object]] = [
            self.receive,
            self.receive,
            self.receive_again_elsewhere,
            self.send_what_an_archive_brought,
            self.decide,
            self.claim,
            self.claim,
            self.complete,
            self.complete,
            self.end,
            self.give_back,
            self.release,
            self.activate,
            self.activate,
            self.deactivate,
            self.queue_what_waited,
            self.read_as,
            self.upgrade,
            self.erase,
        ]

    def step(self) -> str:
        act = self.chance.choice(self.steps)
        with self.database.write() as session:
            act(session)
        if self.chance.random() < 0.1:
            add_up(self.database, beyond=0)
        if act in (self.activate, self.deactivate):
            retarget(self.database, self.now)
        return act.__name__

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.received)

    def receive(self, session: Session) -> None:
        self.received += 1
        record_instance(
            session,
            self.make(
                self.received,
                study=self.chance.randint(1, 4),
                accepted=self.chance.random() < 0.7,
                origin=self.chance.choice(["live", "live", "archive"]),
                age_years=self.chance.choice([4.0, 44.0, None]),
                received_at=self.now,
            ),
        )

    def receive_again_elsewhere(self, session: Session) -> None:
        if self.received:
            number = self.chance.randint(1, self.received)
            study = self.chance.randint(1, 6)
            record_instance(
                session, self.make(number, study=study, sha256=f"{study:063x}f", uri=f"store:again/{study}")
            )

    def send_what_an_archive_brought(self, session: Session) -> None:
        if self.received:
            number = self.chance.randint(1, self.received)
            study = session.scalar(
                select(Study.study_instance_uid)
                .join(Instance, Instance.study_id == Study.id)
                .where(Instance.sop_instance_uid == f"1.2.3.{number}")
            )
            if study is not None:
                record_instance(session, self.make(number, study=int(study[4:]), received_at=self.now))

    def decide(self, session: Session) -> None:
        uid = f"1.2.3.{self.chance.randint(1, max(self.received, 1))}"
        before = gate_decisions.decided(session, uid)
        if before is not None:
            accepted = self.chance.random() < 0.6
            version = self.chance.choice(["1", "2", "2+person"])
            decision = Decision(version, accepted, "region", "" if accepted else "not a chest", {}, ())
            gate_decisions.decide_again(session, before, decision, self.now)

    def claim(self, session: Session) -> None:
        ids = session.scalars(select(Analysis.id).where(Analysis.state == "pending").order_by(Analysis.id)).all()
        if ids:
            one = self.chance.choice(ids)
            claimed = lifecycle.claim(session, one, owner="me", now=NOON, lease=LEASE, max_attempts=2)
            if claimed is not None:
                self.held.append(claimed)

    def taken(self) -> ClaimedAnalysis | None:
        return self.held.pop(self.chance.randrange(len(self.held))) if self.held else None

    def complete(self, session: Session) -> None:
        if (claimed := self.taken()) is not None:
            self.written += 1
            outside = self.chance.random() < 0.3
            lifecycle.complete(session, claimed, result(outside=outside), self.now)

    def end(self, session: Session) -> None:
        if (claimed := self.taken()) is not None:
            state = self.chance.choice(["failed", "failed", "not_applicable"])
            code = self.chance.choice([ReasonCode.OTHER_VERSION, ReasonCode.PIXELS_UNREADABLE])
            lifecycle.end(session, claimed, state=state, reason="because", code=code, now=self.now)

    def give_back(self, session: Session) -> None:
        if (claimed := self.taken()) is not None:
            retry_at = self.chance.choice([None, self.now])
            code = ReasonCode.STORE_UNAVAILABLE
            lifecycle.give_back(session, claimed, reason="away", code=code, retry_at=retry_at)

    def release(self, session: Session) -> None:
        dead = self.chance.random() < 0.5
        lifecycle.release_dead(session, lambda _owner: dead, NOON)
        if dead:
            self.held.clear()

    def activate(self, session: Session) -> None:
        if self.chance.random() < 0.5:
            activation.activate(session, MODEL, self.now)
        else:
            activation.activate(session, CHILD, self.now, ModelScope(((0, 17),)), replace=True)

    def deactivate(self, session: Session) -> None:
        activation.deactivate(session, self.chance.choice([None, MODEL.digest, CHILD.digest]))

    def queue_what_waited(self, session: Session) -> None:
        create_missing(session, self.now, 10)

    def read_as(self, session: Session) -> None:
        if (claimed := self.taken()) is not None:
            renamed = lifecycle.read_as(session, claimed, self.chance.choice(["pad", "crop"]), self.now)
            if renamed is not None:
                self.held.append(renamed)

    def upgrade(self, session: Session) -> None:
        for model in active_models(session).models:
            keep_current(session, model, self.chance.choice(["pad", "crop", "squash"]))

    def erase(self, session: Session) -> None:
        studies = session.scalars(select(Study.id).order_by(Study.id)).all()
        if studies and self.chance.random() < 0.3:
            erasure.erase(session, self.chance.choice(studies), requested_by="me", reason="test", now=self.now)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_stored_states_are_those_of_the_rows_after_any_sequence_of_steps(
    database: Database, new_instance: Make, seed: int
) -> None:
    life = Life(database, new_instance, seed)
    seen: Counter[str] = Counter()
    steps: list[str] = []
    while len(steps) < 120 or (len(seen) < 6 and len(steps) < 300):
        steps.append(life.step())
        check(database, " ".join(steps[-8:]))
        with database.read() as session:
            seen.update(session.scalars(select(Instance.state)))
    assert set(seen) == {"pending", "running", "done", "not_applicable", "failed", "refused"}


def test_two_images_of_a_study_that_end_at_once_leave_it_ended(with_model: Database, new_instance: Make) -> None:
    for turn in range(8):
        with with_model.write() as session:
            ids = [record_instance(session, new_instance(10 * turn + n, study=turn)).analysis_id for n in (1, 2)]
        claims = []
        for number in ids:
            assert number is not None
            with with_model.write() as session:
                claims.append(lifecycle.claim(session, number, owner="me", now=NOON, lease=LEASE, max_attempts=3))
        together = threading.Barrier(2)

        def finish(claimed: ClaimedAnalysis, uid: str, together: threading.Barrier = together) -> None:
            together.wait()
            with with_model.write() as session:
                lifecycle.complete(session, claimed, result(), NOON)

        threads = [
            threading.Thread(target=finish, args=(claimed, f"2.25.{turn}{number}"))
            for number, claimed in enumerate(claims)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    check(with_model)
    with with_model.read() as session:
        assert set(session.scalars(select(Study.ai_state))) == {"done"}
