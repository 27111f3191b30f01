-- Run once by the image's entrypoint, on an empty volume, as the superuser. psql reads the passwords
-- itself, so that they are in no process's arguments.
\set ON_ERROR_STOP on
\set app `cat /run/secrets/app_password`
\set replication `cat /run/secrets/replication_password`
CREATE ROLE shortlinks LOGIN PASSWORD :'app';
ALTER DATABASE shortlinks OWNER TO shortlinks;
CREATE ROLE replication LOGIN REPLICATION PASSWORD :'replication';
SELECT pg_create_physical_replication_slot('replica');
-- «all» in the image's own line does not mean replication.
\! echo 'host replication replication samenet scram-sha-256' >>"$PGDATA/pg_hba.conf"
