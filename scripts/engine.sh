#!/bin/sh
# Runs the integration suite with the store on a database server: scripts/engine.sh postgres|mariadb|mysql [TEST...]
# mysql is the mysqld that MAILROOM_TEST_MYSQLD names: scripts/mysql.sh.
# A Redis is beside each, and with PostgreSQL all mail goes through a RabbitMQ. What is about files of the store, or about the
# direct way to it, is left out by name, and said.
set -eu
cd "$(dirname "$0")/.."

engine=${1:?which engine: postgres, mariadb or mysql}
shift
lists=tests/it/files_only.txt
[ "$engine" != postgres ] || lists="$lists tests/it/direct_only.txt"
skips=
echo "left out with $engine:"
for list in $lists; do
    while read -r name why; do
        case $name in '' | '#'*) continue ;; esac
        echo "  $name  $why"
        skips="$skips --skip $name"
    done <"$list"
done

export MAILROOM_TEST_ENGINE="$engine"
"${CARGO:-cargo}" build --bin mailroom
# shellcheck disable=SC2086 # a list of words
"${CARGO:-cargo}" test --test it -- $skips "$@"
