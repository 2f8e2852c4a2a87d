#!/bin/sh
# The replica's start: the first time it copies the primary, later it goes on where it was.
set -eu
: "${PGDATA:=/var/lib/postgresql/data}"
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown postgres: "$PGDATA"
    chmod 700 "$PGDATA"
    exec gosu postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    export PGPASSWORD="$REPLICATION_PASSWORD"
    # -R writes down whom to follow, and that this is a replica. A copy that was cut short is begun anew.
    until pg_basebackup --host "$PRIMARY" --port "${PRIMARY_PORT:-5432}" --username replication --pgdata "$PGDATA" \
        --wal-method stream --checkpoint fast --slot replica --write-recovery-conf; do
        find "$PGDATA" -mindepth 1 -delete
        sleep 2
    done
fi
exec "$@"
