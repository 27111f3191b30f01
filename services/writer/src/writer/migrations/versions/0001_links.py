"""Links, domains, API keys, idempotency, outbox.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Every unique key of links holds `code`, so that the table can be distributed by it (Citus, a
# sharding router) without a change of schema. Codes compare bytewise: case matters, and the
# index does not depend on the server's locale.
SCHEMA = """
CREATE TABLE schema_version (
    revision integer NOT NULL,
    oldest_code integer NOT NULL
);

-- Hands out the first id of a block of 100: a create takes an id without a round trip.
CREATE SEQUENCE link_ids AS bigint INCREMENT BY 100 MINVALUE 0 START WITH 0;

-- Grows with every change of any link; 0 is «never existed».
CREATE SEQUENCE link_versions AS bigint;

CREATE TABLE domains (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text COLLATE "C" NOT NULL UNIQUE,
    default_target text,
    not_found_target text,
    version bigint NOT NULL DEFAULT nextval('link_versions'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE links (
    id bigint NOT NULL,
    domain_id integer NOT NULL REFERENCES domains,
    code text COLLATE "C" NOT NULL,
    target text NOT NULL,
    status_code smallint NOT NULL DEFAULT 302,
    state text COLLATE "C" NOT NULL DEFAULT 'active'
        CHECK (state IN ('active', 'disabled', 'deleted')),
    custom boolean NOT NULL DEFAULT false,
    valid_from timestamptz,
    expires_at timestamptz,
    expired_target text,
    max_visits bigint CHECK (max_visits > 0),
    visits bigint NOT NULL DEFAULT 0,
    password_hash text,
    forward_query boolean NOT NULL DEFAULT false,
    forward_path boolean NOT NULL DEFAULT false,
    title text,
    tags text[] NOT NULL DEFAULT '{}',
    note text,
    owner bigint,
    version bigint NOT NULL DEFAULT nextval('link_versions'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (domain_id, code)
);
CREATE INDEX links_created ON links (created_at, id);
CREATE INDEX links_updated ON links (updated_at);
CREATE INDEX links_custom ON links (domain_id, code) WHERE custom;
CREATE INDEX links_target ON links USING hash (target);
CREATE INDEX links_tags ON links USING gin (tags) WHERE tags <> '{}';

-- What must reach Redis and the redirectors: written with the change, deleted by the relay.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain_id integer NOT NULL,
    host text COLLATE "C" NOT NULL,
    code text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row: the newest entry of the change feed whose outbox rows are gone, and which Redis had
-- it. A feed that ends before it, or another Redis, says that changes may have been lost there.
CREATE TABLE feed_position (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    servers text COLLATE "C" NOT NULL,
    last_ms bigint NOT NULL,
    last_seq bigint NOT NULL
);

-- At most one row: links changed since `oldest` go to Redis again, the newest first; those
-- behind (updated_at, domain_id, code) are still to go.
CREATE TABLE republish (
    oldest timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    domain_id integer NOT NULL DEFAULT 2147483647,
    code text COLLATE "C" NOT NULL DEFAULT ''
);

CREATE TABLE api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    prefix text COLLATE "C" NOT NULL UNIQUE,
    hash bytea NOT NULL,
    scopes text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE idempotency (
    key_id bigint NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL,
    request_hash bytea NOT NULL,
    status smallint,
    headers jsonb,
    body bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_id, idempotency_key)
);
CREATE INDEX idempotency_created ON idempotency (created_at);

INSERT INTO schema_version (revision, oldest_code) VALUES (1, 1);
"""


def upgrade() -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)
