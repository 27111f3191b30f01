# The image's entrypoint sources this script once, on an empty volume. psql reads the passwords from
# files, so no process has them in its arguments.
psql -q -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  -v role="$SHORTLINKS_ROLE" -v database="$SHORTLINKS_DATABASE" <<'SQL'
\set password `cat /run/credentials/postgresql-password`
\set replication `cat /run/credentials/postgresql-replication-password`
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"role";
CREATE ROLE replication LOGIN REPLICATION PASSWORD :'replication';
SQL
echo 'host replication replication all scram-sha-256' >>"$PGDATA/pg_hba.conf"
