# Sourced once by the image's entrypoint, on an empty volume. The passwords are read by psql itself,
# so that they are in no process's arguments.
psql -q -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  -v role="$SHORTLINKS_ROLE" -v database="$SHORTLINKS_DATABASE" <<'SQL'
\set password `cat /run/credentials/postgresql-password`
\set replication `cat /run/credentials/postgresql-replication-password`
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"role";
CREATE ROLE replication LOGIN REPLICATION PASSWORD :'replication';
SQL
echo 'host replication replication all scram-sha-256' >>"$PGDATA/pg_hba.conf"
