#!/usr/bin/env bash
# Copy the primary into an empty volume, then follow it; the arguments are the server's.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # A copy that was cut short must not pass for a whole one: it gets its name at the end.
  rm -rf "$PGDATA" "$PGDATA.new"
  mkdir -p "$(dirname "$PGDATA")"
  PGPASSWORD=$(cat /run/secrets/replication_password) \
    pg_basebackup -h postgres -U replication -D "$PGDATA.new" -S replica -R -X stream -c fast
  mv "$PGDATA.new" "$PGDATA"
fi
exec docker-entrypoint.sh "$@"
