"""Webhooks: endpoints, events, and the delivery of each event to each endpoint.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WAIT_FOR_TRANSACTIONS = "10min"

# The previous release reads and writes none of these tables, so it still runs. Its changes cause no
# events.
SCHEMA = """
CREATE TABLE webhooks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    url text NOT NULL,
    events text[] COLLATE "C" NOT NULL,
    thresholds bigint[] NOT NULL DEFAULT '{}',
    description text,
    enabled boolean NOT NULL DEFAULT true,
    disabled_reason text,
    secret text NOT NULL,
    previous_secret text,
    previous_until timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Events, written in the transaction of their change. `link` is the row of the link at that time,
-- without its password. A worker dispatches each event to the webhooks that want it.
CREATE TABLE webhook_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text COLLATE "C" NOT NULL,
    host text COLLATE "C" NOT NULL,
    link jsonb,
    threshold bigint,
    visits bigint,
    once text COLLATE "C",
    dispatched boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX webhook_events_new ON webhook_events (id) WHERE NOT dispatched;
CREATE UNIQUE INDEX webhook_events_once ON webhook_events (once) WHERE once IS NOT NULL;

-- No foreign keys: they would lock rows of `webhooks`, and a deletion would wait for deliveries.
CREATE TABLE webhook_deliveries (
    webhook_id bigint NOT NULL,
    event_id bigint NOT NULL,
    status text COLLATE "C" NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'delivered', 'dead')),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_attempt_at timestamptz,
    response_status integer,
    error text,
    PRIMARY KEY (webhook_id, event_id)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at)
    WHERE status = 'pending';
CREATE INDEX webhook_deliveries_status ON webhook_deliveries (webhook_id, status, event_id);
CREATE INDEX webhook_deliveries_event ON webhook_deliveries (event_id);

-- One row: the last link whose expiry was turned into an event.
CREATE TABLE webhook_expiries (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    expires_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    link_id bigint NOT NULL DEFAULT 0
);
INSERT INTO webhook_expiries DEFAULT VALUES;

UPDATE schema_version SET revision = 8
"""


def upgrade() -> None:
    connection = op.get_bind()
    with op.get_context().autocommit_block():
        # Links that expire, in the order of their expiry. CREATE INDEX CONCURRENTLY waits for all
        # transactions, but blocks no other statement. An index that an interrupted migration left
        # is not valid.
        limit = connection.exec_driver_sql("SHOW lock_timeout").scalar()
        op.execute(f"SET lock_timeout = '{WAIT_FOR_TRANSACTIONS}'")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS links_expires")
        op.execute(
            "CREATE INDEX CONCURRENTLY links_expires ON links (expires_at, id)"
            " WHERE expires_at IS NOT NULL"
        )
        op.execute(f"SET lock_timeout = '{limit}'")
    for statement in SCHEMA.split(";\n"):
        op.execute(statement)
