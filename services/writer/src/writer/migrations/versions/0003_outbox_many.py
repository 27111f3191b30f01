"""One outbox row for many new links.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# A separate table: a relay of the previous release cannot read such rows, and would delete them.
SCHEMA = """
-- Links with generated codes that one COPY made: those, still unchanged, whose `updated_at` is
-- `changed_at`. Written with them, deleted by the relay.
CREATE TABLE outbox_many (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL,
    links integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

UPDATE schema_version SET revision = 3;
"""


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)
