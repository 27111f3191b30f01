"""Renames the column of the redirect status to its name in the API.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A rename changes the catalogue only and takes its lock for an instant. Code of an earlier
# revision reads the old name, so it no longer runs on this schema: no release had that name.
SCHEMA = """
ALTER TABLE links RENAME COLUMN status_code TO redirect_status;

UPDATE schema_version SET revision = 5, oldest_code = 5;
"""


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)
