"""Alembic's entry: runs the migrations on the connection that `db.schema.upgrade` hands over."""

from alembic import context

from db.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
