"""Two separate columns: whether a link is enabled, and whether it is in the trash.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# No lock is held while the table is read, however large it is: every statement is a separate
# transaction, and can be run again after an interrupted migration.
ENABLED = "ALTER TABLE links ADD COLUMN IF NOT EXISTS enabled boolean NOT NULL DEFAULT true"
CONVERTED = """
UPDATE links SET enabled = false WHERE state = 'disabled';
UPDATE links SET deleted_at = updated_at WHERE state = 'deleted' AND deleted_at IS NULL
"""

WAIT_FOR_TRANSACTIONS = "10min"

# The lists of links by status. Each index holds the few links that can have the status. Whether a
# link has expired or is exhausted is decided when the list is read.
INDEXES = {
    "links_off": "NOT enabled OR deleted_at IS NOT NULL",
    "links_timed": "expires_at IS NOT NULL OR valid_from IS NOT NULL",
    "links_limited": "max_visits IS NOT NULL",
}

# Changes of the previous release during the migration are found by their time. `state` is dropped
# and not kept in sync: the previous release cannot run on this schema, and nobody has installed it.
CONTRACT = """
LOCK TABLE links;
UPDATE links SET enabled = (state <> 'disabled')
    WHERE updated_at >= CAST(:since AS timestamptz) AND enabled <> (state <> 'disabled');
UPDATE links SET deleted_at = updated_at
    WHERE updated_at >= CAST(:since AS timestamptz) AND state = 'deleted' AND deleted_at IS NULL;
ALTER TABLE links DROP COLUMN state;
UPDATE schema_version SET revision = 6, oldest_code = 6
"""


def upgrade() -> None:
    connection = op.get_bind()
    with op.get_context().autocommit_block():
        since = connection.scalar(sa.text("SELECT clock_timestamp()::text"))
        op.execute(ENABLED)
        for statement in CONVERTED.split(";\n"):
            op.execute(statement)
        # CREATE INDEX CONCURRENTLY waits for all transactions, but blocks no other statement.
        limit = connection.scalar(sa.text("SHOW lock_timeout"))
        op.execute(f"SET lock_timeout = '{WAIT_FOR_TRANSACTIONS}'")
        for name, condition in INDEXES.items():
            # An index that an interrupted migration left is not valid.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(
                f"CREATE INDEX CONCURRENTLY {name} ON links (created_at, id) WHERE {condition}"
            )
        op.execute(f"SET lock_timeout = '{limit}'")
    for statement in CONTRACT.split(";\n"):
        bound = {"since": since} if ":since" in statement else {}
        op.execute(sa.text(statement).bindparams(**bound))
