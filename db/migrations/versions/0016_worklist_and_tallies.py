"""A study knows when it last had news, every decision is kept, and counts are kept by triggers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# table -> (which rows count, kind, name, detail, how many); {row} is the row before or after the change. An instance is
# "received" within the transaction that inserts it alone
COUNTED = {
    "instance": (
        ("{row}.origin = 'live' AND {row}.state <> 'received'", "'instance'", "{row}.state", "{outside}", "1"),
    ),
    "gate_decision": (
        ("{row}.origin = 'live' AND {row}.current AND {row}.accepted", "'accepted'", "''", "''", "1"),
        (
            "{row}.origin = 'live' AND {row}.current AND NOT {row}.accepted",
            "'refused'",
            "{row}.rule",
            "{row}.reason",
            "1",
        ),
    ),
    "delivery": (("{true}", "'delivery'", "{row}.destination", "{row}.state", "1"),),
    "commitment": (("{true}", "'commitment'", "{row}.state", "''", "1"),),
    "rejection": (("{true}", "'rejection'", "CAST({row}.status AS VARCHAR(8))", "''", "{row}.number"),),
}
# a trigger runs only where one of these changed: a heartbeat of a lease counts nothing
WATCHED = {
    "instance": ("origin", "state", "outside_domain"),
    "gate_decision": ("origin", "current", "accepted", "rule", "reason"),
    "delivery": ("destination", "state"),
    "commitment": ("state",),
    "rejection": ("status", "number"),
}


def upgrade() -> None:
    _studies()
    _decisions()
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "tally",
        sa.Column("id", key, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tally")),
    )
    for table, counts in COUNTED.items():
        for condition, *values in counts:
            kind, name, detail, number = (_of(table, each) for each in values)
            op.execute(
                f"INSERT INTO tally (kind, name, detail, number) SELECT {kind}, name, detail, SUM(number) FROM"
                f" (SELECT {name} AS name, {detail} AS detail, {number} AS number FROM {table}"
                f" WHERE {_of(table, condition)}) AS counted GROUP BY name, detail"
            )
        (_sqlite_triggers if op.get_bind().dialect.name == "sqlite" else _postgresql_trigger)(table)
    op.create_index("ix_delivery_state_destination_created_at", "delivery", ["state", "destination", "created_at"])
    op.create_index("ix_delivery_sent_at", "delivery", ["sent_at"])


def _studies() -> None:
    op.add_column("study", sa.Column("latest_at", sa.DateTime(timezone=True), nullable=True))
    # a study of which only misfiled images are known is on the worklist too; one of an archive's alone is not
    op.execute(
        """
        UPDATE study SET latest_at =
          CASE WHEN EXISTS (SELECT 1 FROM instance WHERE instance.study_id = study.id)
          THEN (SELECT MAX(instance.received_at) FROM instance
                WHERE instance.study_id = study.id AND instance.origin = 'live')
          ELSE arrived_at END
        """
    )
    op.drop_index("ix_study_reading_key", "study")
    op.drop_index("ix_study_priority", "study")
    op.create_index("ix_study_latest_at_reading_key_priority", "study", ["latest_at", "reading_key", "priority"])
    op.create_index("ix_study_priority_latest_at", "study", ["priority", "latest_at"])
    for name in ("patient_id", "accession_number", "study_date"):
        # a B-tree of PostgreSQL refuses values beyond 2,700 bytes, and these came by wire
        op.create_index(f"ix_study_{name}", "study", [name], postgresql_using="hash")


def _decisions() -> None:
    with op.batch_alter_table("gate_decision") as table:
        table.drop_constraint(op.f("uq_gate_decision_instance_id_rules_version"), type_="unique")


def _of(table: str, text: str, row: str | None = None) -> str:
    row = table if row is None else row
    outside = f"CASE WHEN {row}.outside_domain THEN 'outside' ELSE '' END"
    return text.format(row=row, outside=outside, true="1 = 1")


def _changes(table: str, row: str, sign: str) -> str:
    return "".join(
        f" INSERT INTO tally (kind, name, detail, number) SELECT {_of(table, kind, row)}, {_of(table, name, row)},"
        f" {_of(table, detail, row)}, {sign}({_of(table, number, row)}) WHERE {_of(table, condition, row)};"
        for condition, kind, name, detail, number in COUNTED[table]
    )


def _sqlite_triggers(table: str) -> None:
    changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in WATCHED[table])
    of = ", ".join(WATCHED[table])
    minus, plus = _changes(table, "OLD", "-"), _changes(table, "NEW", "")
    op.execute(f"CREATE TRIGGER tally_{table}_insert AFTER INSERT ON {table} BEGIN{plus} END")
    op.execute(f"CREATE TRIGGER tally_{table}_delete AFTER DELETE ON {table} BEGIN{minus} END")
    op.execute(
        f"CREATE TRIGGER tally_{table}_update AFTER UPDATE OF {of} ON {table} WHEN {changed} BEGIN{minus}{plus} END"
    )


def _postgresql_trigger(table: str) -> None:
    same = " AND ".join(f"OLD.{name} IS NOT DISTINCT FROM NEW.{name}" for name in WATCHED[table])
    op.execute(
        f"""
        CREATE FUNCTION tally_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'UPDATE' THEN
            IF {same} THEN RETURN NULL; END IF;
          END IF;
          IF TG_OP <> 'INSERT' THEN {_changes(table, "OLD", "-")} END IF;
          IF TG_OP <> 'DELETE' THEN {_changes(table, "NEW", "")} END IF;
          RETURN NULL;
        END $$
        """
    )
    op.execute(
        f"CREATE TRIGGER tally_{table} AFTER INSERT OR DELETE OR UPDATE OF {', '.join(WATCHED[table])} ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION tally_{table}()"
    )
