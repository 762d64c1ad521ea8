"""Alembic's entry point: runs the revisions on the connection passed in the configuration."""

from alembic import context

from postroomd.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
