#!/bin/sh
# Runs the integration suite with the store on a database server, and a Redis beside it: scripts/engine.sh postgres|mariadb|mysql [TEST...]
# mysql is the mysqld that MAILROOM_TEST_MYSQLD names: scripts/mysql.sh.
# What is about files of the store is left out by name, and said.
set -eu
cd "$(dirname "$0")/.."

engine=${1:?which engine: postgres, mariadb or mysql}
shift
list=tests/it/files_only.txt
skips=
echo "left out with $engine:"
while read -r name why; do
    case $name in '' | '#'*) continue ;; esac
    echo "  $name  $why"
    skips="$skips --skip $name"
done <"$list"

export MAILROOM_TEST_ENGINE="$engine"
"${CARGO:-cargo}" build --bin mailroom
# shellcheck disable=SC2086 # a list of words
"${CARGO:-cargo}" test --test it -- $skips "$@"
