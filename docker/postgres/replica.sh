#!/usr/bin/env bash
# Copy the primary to an empty volume, then start replication. The arguments go to the server.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # The copy is renamed when it is complete, so an interrupted copy is never started.
  rm -rf "$PGDATA" "$PGDATA.new"
  mkdir -p "$(dirname "$PGDATA")"
  PGPASSWORD=$(cat /run/secrets/replication_password) \
    pg_basebackup -h postgres -U replication -D "$PGDATA.new" -S replica -R -X stream -c fast
  mv "$PGDATA.new" "$PGDATA"
fi
exec docker-entrypoint.sh "$@"
