#!/bin/sh
# Everything that runs on MariaDB, on a MySQL of yours instead: make test-mysql MAILROOM_TEST_MYSQLD=/usr/sbin/mysqld
#
# Debian has no MySQL to install, so this is not part of make test. It needs
#   - a mysqld, 8.0 or newer: of Oracle's packages, of a tar ball (with its libraries found), or a script that runs one with the
#     arguments it is given. As root, the user mysql must be able to run it. Servers are made in temporary directories, on
#     ports of their own; one that runs already is not touched.
#   - what make test needs besides (scripts/setup.sh test), of which the client of MariaDB speaks to it, too.
# Where mysql and mysqldump lie beside it, copies are made with them. With arguments, the tests of these names alone are run.
set -eu
cd "$(dirname "$0")/.."

: "${CARGO_TARGET_DIR:=$HOME/.cache/mailroom-target}"
export CARGO_TARGET_DIR
if ! version=$("${MAILROOM_TEST_MYSQLD:-/nowhere}" --no-defaults --version 2>&1); then
    echo "make test-mysql needs MAILROOM_TEST_MYSQLD=/path/to/mysqld, a MySQL 8.0 or newer: ${MAILROOM_TEST_MYSQLD:-it is not set}" >&2
    exit 2
fi
case $version in
*MariaDB*)
    echo "$MAILROOM_TEST_MYSQLD is MariaDB, which make test has already" >&2
    exit 2
    ;;
esac
export MAILROOM_TEST_MYSQLD
echo "==> $version"

"${CARGO:-cargo}" build --bin mailroom
if [ $# -gt 0 ]; then
    exec "${CARGO:-cargo}" test --test it -- --test-threads 4 "$@"
fi
echo "==> the store, its search and its commands"
"${CARGO:-cargo}" test --test it -- --test-threads 4 mariadb mysql:: engines:: nodes:: nodes_agree::
echo "==> the integration suite"
scripts/engine.sh mysql
