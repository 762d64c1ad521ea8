"""What the workers know of the time."""

from sqlalchemy import Column, Integer, String, Table

from postroomd.storage.column_types import Instant
from postroomd.storage.schema.columns import metadata

# The latest time that the workers of each boot of a machine have trusted: a clock that is behind it has leapt.
worker_clocks = Table(
    "worker_clocks",
    metadata,
    Column("time_scale", String(80), primary_key=True),
    Column("trusted_at", Instant, nullable=False),
    Column("origin", Instant),
    Column("leapt_to", Instant),
    Column("acceptance", Integer, nullable=False),
)

clock_acceptances = Table(
    "clock_acceptances",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("accepted_at", Instant, nullable=False),
    Column("database_at", Instant),
)
