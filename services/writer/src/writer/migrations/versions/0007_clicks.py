"""Clicks: rollups, the positions of the worker in the click streams, and rejected entries.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WAIT_FOR_TRANSACTIONS = "10min"

# The previous release reads and writes none of these tables, so it still runs. Months of
# clicks_daily are partitions, which `writer.worker.retention` creates and drops.
SCHEMA = """
-- All clicks and visits of a link since it was created.
CREATE TABLE link_totals (
    link_id bigint PRIMARY KEY,
    clicks bigint NOT NULL,
    visits bigint NOT NULL,
    last_click_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX link_totals_visits ON link_totals (visits, link_id);

-- One row per subject, UTC day and click stream. A stream has one writer at a time, so no two
-- workers write the same row. `shortcore.clicks.rollups` encodes the bytea columns.
CREATE TABLE clicks_daily (
    kind smallint NOT NULL,
    subject bigint NOT NULL,
    day date NOT NULL,
    stream smallint NOT NULL,
    clicks bigint NOT NULL,
    visits bigint NOT NULL,
    series bytea NOT NULL,
    breakdowns bytea NOT NULL,
    visitors bytea NOT NULL,
    PRIMARY KEY (kind, subject, day, stream)
) PARTITION BY RANGE (day);

-- The ids by which clicks_daily names tags. A tag keeps its id for ever.
CREATE TABLE stats_tags (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tag text COLLATE "C" NOT NULL UNIQUE
);

-- How far each click stream has been counted, and which worker reads it. `position` is the id of
-- the last counted entry; it changes only together with the rollups of the entries up to it.
CREATE TABLE click_streams (
    stream smallint PRIMARY KEY,
    position text COLLATE "C" NOT NULL DEFAULT '0-0',
    server text COLLATE "C" NOT NULL DEFAULT '',
    owner text COLLATE "C",
    lease_until timestamptz
);

-- The number of the last counted batch of each redirector process in each stream.
CREATE TABLE click_sources (
    stream smallint NOT NULL,
    source bytea NOT NULL,
    number bigint NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (stream, source)
);
CREATE INDEX click_sources_seen ON click_sources (seen_at);

-- The workers that run, so that they can share the streams evenly.
CREATE TABLE click_workers (
    worker text COLLATE "C" PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

-- Entries of click streams that could not be read, up to a maximum number.
CREATE TABLE clicks_rejected (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream smallint NOT NULL,
    entry text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    data bytea NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (stream, entry)
);

UPDATE schema_version SET revision = 7
"""


def upgrade() -> None:
    connection = op.get_bind()
    with op.get_context().autocommit_block():
        # The worker finds the domain, the tags and the owner of a link by its id. CREATE INDEX
        # CONCURRENTLY waits for all transactions, but blocks no other statement. An index that an
        # interrupted migration left is not valid.
        limit = connection.exec_driver_sql("SHOW lock_timeout").scalar()
        op.execute(f"SET lock_timeout = '{WAIT_FOR_TRANSACTIONS}'")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS links_id")
        op.execute("CREATE INDEX CONCURRENTLY links_id ON links (id)")
        op.execute(f"SET lock_timeout = '{limit}'")
    for statement in SCHEMA.split(";\n"):
        op.execute(statement)
