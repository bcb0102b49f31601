"""Which model reads whom: never two for the same image, whoever activates them at once; nobody vanishes silently."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from db.analysis import lifecycle
from db.analysis.planning import create_missing, retarget
from db.engine.session import Database
from db.intake.instances import record_instance
from db.model_registry import activation
from db.model_registry.activation import ScopeTaken
from db.model_registry.scope import OLDEST, ActiveModels, ModelScope, joined
from db.records import ActiveModel, NewInstance
from db.tables.analyses import Analysis
from db.tables.model_registry import Model, ModelScopeCell
from db.views import ledger
from db.views.worklist import worklist
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import MODEL, NOON

Make = Callable[..., NewInstance]
CHILD = replace(MODEL, digest="c" * 64, name="children")
ADULT = replace(MODEL, digest="d" * 64, name="adults")
CHILDREN = ModelScope(((0, 17),))


def activate(database: Database, model: ActiveModel, scope: ModelScope | None = None, **options: bool) -> ActiveModels:
    with database.write() as session:
        activation.activate(session, model, NOON, scope, **options)
    retarget(database, NOON)
    with database.read() as session:
        return activation.active_models(session)


def reader(active: ActiveModels, age: float | None, view: str | None = "PA") -> str | None:
    found = active.model_for(age, view)
    return None if found is None else found.name


def test_model_for_children_reads_children_and_the_default_everybody_else(database: Database) -> None:
    activate(database, MODEL)
    active = activate(database, CHILD, CHILDREN)
    read = {0.0: "children", 17.99: "children", 18.0: "first", 90.0: "first", None: "first", 130.9: "first"}
    assert {age: reader(active, age) for age in read} == read
    assert active.reads(CHILD.digest) == "0-17 years, any view"
    assert active.reads(MODEL.digest) == "everything else"
    assert active.name == "first, children"


@pytest.mark.parametrize(
    ("view", "name"), [("AP", "children"), ("ap", "children"), ("PA", "first"), (None, "first"), ("RLO", "first")]
)
def test_view_that_is_unknown_or_another_is_the_defaults(database: Database, view: str | None, name: str) -> None:
    activate(database, MODEL)
    assert reader(activate(database, CHILD, ModelScope((), ("AP",))), None, view) == name


def test_default_replaces_the_default_and_leaves_the_others(database: Database) -> None:
    activate(database, MODEL)
    activate(database, CHILD, CHILDREN)
    active = activate(database, ADULT)
    assert [entry.model.name for entry in active.entries] == ["adults", "children"]


def test_same_ground_is_taken_over_and_other_overlap_refused_unless_it_replaces(database: Database) -> None:
    activate(database, MODEL)
    activate(database, CHILD, CHILDREN)
    assert reader(activate(database, ADULT, ModelScope(((0, 17),))), 5) == "adults"
    with pytest.raises(
        ScopeTaken, match=r"adults d{12} reads 0-17 years, any view, which meets 10-30 years, PA.*--repl"
    ):
        activate(database, CHILD, ModelScope(((10, 30),), ("PA",)))
    with database.read() as session:
        assert reader(activation.active_models(session), 12) == "adults", "a refused activation changes nothing"
    active = activate(database, CHILD, ModelScope(((10, 30),), ("PA",)), replace=True)
    assert [reader(active, 12), reader(active, 12, "AP"), reader(active, 5)] == ["children", "first", "first"]
    assert ADULT.digest not in {model.digest for model in active.models}


def test_model_changes_its_own_ground(database: Database) -> None:
    activate(database, CHILD, CHILDREN)
    active = activate(database, CHILD, ModelScope(((0, 15),)))
    assert (reader(active, 15), reader(active, 16)) == ("children", None)
    active = activate(database, CHILD)
    assert (reader(active, 15), reader(active, 50)) == ("children", "children")
    active = activate(database, CHILD, CHILDREN, default=True)
    assert active.reads(CHILD.digest) == "0-17 years, any view; everything else"


def test_nobody_reads_is_a_stored_reason_and_is_read_once_somebody_does(database: Database, new_instance: Make) -> None:
    activate(database, CHILD, CHILDREN)
    with database.write() as session:
        assert record_instance(session, new_instance(age_years=45.0)).analysis_id is None
        assert record_instance(session, new_instance(2, age_years=None, view=None)).analysis_id is None
        assert record_instance(session, new_instance(3, age_years=4.0)).analysis_id is not None
    with database.read() as session:
        book = ledger.ledger(session, NOON)
        (item,) = worklist(session)
        reasons = set(session.scalars(select(Analysis.reason).where(Analysis.state == "not_applicable")))
    assert (book.received, book.not_applicable, book.pending) == (3, 2, 1)
    assert reasons == {
        "no active model reads age 45, view PA (children reads 0-17 years, any view)",
        "no active model reads unknown age, unknown view (children reads 0-17 years, any view)",
    }
    assert item.state == "pending"
    activate(database, MODEL)
    with database.read() as session:
        rows = dict(session.execute(select(Analysis.model_name, func.count()).group_by(Analysis.model_name)).all())
        assert ledger.ledger(session, NOON).pending == 3
    assert rows == {"first": 2, "children": 1}


def test_what_waits_goes_to_the_model_that_reads_it_now(with_model: Database, new_instance: Make) -> None:
    with with_model.write() as session:
        for number, age in ((1, 4.0), (2, 44.0)):
            record_instance(session, new_instance(number, age_years=age))
    activate(with_model, CHILD, CHILDREN)
    with with_model.read() as session:
        assert list(session.scalars(select(Analysis.model_name).order_by(Analysis.id))) == ["children", "first"]
    with with_model.write() as session:
        activation.deactivate(session, MODEL.digest)
    retarget(with_model, NOON)
    with with_model.read() as session:
        states = list(session.scalars(select(Analysis.state).order_by(Analysis.id)))
    assert states == ["pending", "not_applicable"]


def test_what_came_without_any_model_is_shared_out_by_age(database: Database, new_instance: Make) -> None:
    with database.write() as session:
        for number, age in ((1, 4.0), (2, 44.0), (3, None)):
            record_instance(session, new_instance(number, age_years=age))
        activation.activate(session, MODEL, NOON)
        activation.activate(session, CHILD, NOON, CHILDREN)
        assert create_missing(session, NOON, 10) == 3
        names = session.scalars(select(Analysis.model_name).order_by(Analysis.instance_id))
        assert list(names) == ["children", "first", "first"]


def test_study_read_by_two_models_shows_the_maximum_over_its_images(with_model: Database, new_instance: Make) -> None:
    activate(with_model, CHILD, ModelScope((), ("AP",)))
    for number, view, probability in ((1, "PA", 0.4), (2, "AP", 0.7)):
        with with_model.write() as session:
            analysis_id = record_instance(session, new_instance(number, view=view)).analysis_id
            assert analysis_id is not None
            claimed = lifecycle.claim(session, analysis_id, owner="me", now=NOON, lease=LEASE, max_attempts=3)
            assert claimed is not None
            assert lifecycle.complete(session, claimed, result(probability), NOON)
    with with_model.read() as session:
        (item,) = worklist(session)
    assert [finding.probability for finding in item.findings] == [0.7]
    assert item.model == "first, children"


def test_two_that_activate_at_once_leave_one_for_each_ground(database: Database) -> None:
    grounds = [None, CHILDREN, ModelScope(((0, 30),)), ModelScope((), ("AP",))]
    refused: list[ScopeTaken] = []

    def work(number: int) -> None:
        model = replace(MODEL, digest=f"{number:064x}", name=f"model {number}")
        for turn in range(4):
            try:
                activate(database, model, grounds[(number + turn) % 4])
            except ScopeTaken as error:
                refused.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        rows = session.scalars(select(Model).where(Model.active.is_(True))).all()
        cells = session.scalar(select(func.count()).select_from(ModelScopeCell))
    assert sum(row.is_default for row in rows) <= 1
    owned = [ModelScope.of_json(row.scope).cells() for row in rows if row.scope is not None]
    assert sum(map(len, owned)) == len(set().union(*owned)) == cells, "no cell is two models'"
    assert all(row.is_default or row.scope is not None for row in rows)


def test_database_itself_refuses_a_second_default_and_a_second_owner(with_model: Database) -> None:
    activate(with_model, CHILD, CHILDREN)
    for values in ({"is_default": True, "scope": None}, {"is_default": False, "scope": CHILDREN.to_json()}):
        with pytest.raises(IntegrityError) as caught, with_model.engine.connect() as raw, raw.begin():
            raw.execute(
                Model.__table__.insert().values(  # type: ignore[attr-defined]
                    digest="e" * 64, name="x", folder="/x", preprocessing_id="p", active=True, **values
                )
            )
            raw.execute(ModelScopeCell.__table__.insert().values(age=5, view="PA", model_digest="e" * 64))  # type: ignore[attr-defined]
        assert "model" in str(caught.value) or "ground_cell" in str(caught.value)


def test_grounds_meet_where_they_share_a_cell() -> None:
    assert CHILDREN.cells() & ModelScope(((17, 17),)).cells()
    assert not CHILDREN.cells() & ModelScope(((18, OLDEST),)).cells()
    assert not ModelScope((), ("AP",)).cells() & ModelScope((), ("PA",)).cells()
    assert ModelScope(((0, 1),), ("AP",)).cells() & ModelScope((), ("AP", "PA")).cells()
    assert joined([(12, 17), (0, 1), (2, 3), (13, 14)]) == ((0, 3), (12, 17))
    for scope in (CHILDREN, ModelScope(((0, 1), (5, 5)), ("PA",)), ModelScope((), ("AP",))):
        assert ModelScope.of_json(scope.to_json()) == scope
        for age in (None, *range(-1, OLDEST + 1)):
            for view in ("PA", "AP", None):
                cell = (-1 if age is None or age < 0 else age, view or "OTHER")
                assert scope.holds(age, view) is (cell in scope.cells())
