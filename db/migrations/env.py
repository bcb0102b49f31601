"""Alembic's entry: runs the migrations on the connection that `db.engine.schema.upgrade` hands over."""

from alembic import context

from db.tables.base import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
