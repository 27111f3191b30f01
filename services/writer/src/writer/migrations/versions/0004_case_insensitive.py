"""Domains whose codes are case-insensitive.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# With a constant default, PostgreSQL rewrites no row. The previous release reads only columns that
# it names, so it still runs.
SCHEMA = """
-- All codes of such a domain are stored in lower case; every spelling of a code is looked up so.
ALTER TABLE domains ADD COLUMN case_insensitive boolean NOT NULL DEFAULT false;

UPDATE schema_version SET revision = 4;
"""


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)
