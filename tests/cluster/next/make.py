"""Runs inside the build: makes the code of this image ask for a schema one revision further on."""

import importlib.util
import py_compile
from pathlib import Path

from shortcore.storage import schema

MIGRATION = '''"""What a next release could need.

Revision ID: {new:04}
Revises: {old:04}
"""

from alembic import op

revision = "{new:04}"
down_revision = "{old:04}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE links ADD COLUMN campaign text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE domains ADD COLUMN campaign text NOT NULL DEFAULT ''")
    op.execute("CREATE TABLE campaigns (name text PRIMARY KEY)")
    op.execute("UPDATE schema_version SET revision = {new}")
'''

old, new = schema.REVISION, schema.REVISION + 1
source = Path(schema.__file__)
text = source.read_text()
assert text.count(f"\nREVISION = {old}\n") == 1
source.write_text(text.replace(f"\nREVISION = {old}\n", f"\nREVISION = {new}\n"))
py_compile.compile(
    str(source),
    cfile=importlib.util.cache_from_source(str(source)),
    doraise=True,
    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
)
if importlib.util.find_spec("writer"):  # the redirector's image migrates nothing
    import writer.migrations

    versions = Path(writer.migrations.__file__).parent / "versions"
    (versions / f"{new:04}_next.py").write_text(MIGRATION.format(old=old, new=new))
