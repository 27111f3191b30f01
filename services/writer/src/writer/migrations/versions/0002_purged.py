"""Recently purged links.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = """
-- Links that were removed for ever, for as long as a Redis that went back to an older state could
-- still hold them: nothing else remembers then that they are gone.
CREATE TABLE purged (
    domain_id integer NOT NULL,
    host text COLLATE "C" NOT NULL,
    code text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    purged_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX purged_purged_at ON purged (purged_at);

UPDATE schema_version SET revision = 2;
"""


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)
