"""Domains whose codes are case-insensitive.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# A constant default: PostgreSQL rewrites no row. The release before reads neither this column nor
# any column that it does not name, so that it runs on.
SCHEMA = """
-- All codes of such a domain are stored in lower case; every spelling of a code is looked up so.
ALTER TABLE domains ADD COLUMN case_insensitive boolean NOT NULL DEFAULT false;

UPDATE schema_version SET revision = 4;
"""


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)
