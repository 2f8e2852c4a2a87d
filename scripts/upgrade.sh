#!/bin/sh
# An older version beside this one, both as real programs: make test-upgrade OLD=v0.1.0, or any revision, or the path of a binary
#
# A revision is built first, in a worktree of its own in a temporary directory, with the dev profile; what it was built of stays in
# MAILROOM_UPGRADE_TARGET (~/.cache/mailroom-upgrade-target) for the next time, some 3 GB. It needs what make test needs
# (scripts/setup.sh test): PostgreSQL, Redis and RabbitMQ are started for it. With arguments, the tests of these names alone are run.
#
# An older program that refuses the tables of a newer one cannot come back to them. That is tried first, and what depends on it is
# left out and named then.
set -eu
cd "$(dirname "$0")/.."

: "${CARGO_TARGET_DIR:=$HOME/.cache/mailroom-target}"
export CARGO_TARGET_DIR
cargo=${CARGO:-cargo}
if [ -z "${OLD:-}" ]; then
    echo "make test-upgrade needs OLD=REVISION, the version that is upgraded, or OLD=/path/to/mailroom" >&2
    exit 2
fi

work=$(mktemp -d)
finish() {
    git worktree remove --force "$work/old" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ -f "$OLD" ] && [ -x "$OLD" ]; then
    MAILROOM_TEST_OLD=$(realpath "$OLD")
    what=$MAILROOM_TEST_OLD
elif revision=$(git rev-parse --verify --quiet "$OLD^{commit}"); then
    what="$(git log -1 --format='%h of %cs, %s' "$revision")"
    target=${MAILROOM_UPGRADE_TARGET:-$HOME/.cache/mailroom-upgrade-target}
    echo "==> building $what"
    git worktree add --quiet --detach "$work/old" "$revision"
    (cd "$work/old" && CARGO_TARGET_DIR=$target "$cargo" build --locked --bin mailroom)
    # Another run may build another one there.
    cp "$target/debug/mailroom" "$work/mailroom"
    MAILROOM_TEST_OLD=$work/mailroom
else
    echo "make test-upgrade: OLD=$OLD is neither a revision nor a program" >&2
    exit 2
fi
export MAILROOM_TEST_OLD
"$cargo" build --bin mailroom
echo "==> old: $what"
echo "==> new: $(git describe --always --dirty)"

skips=
"$CARGO_TARGET_DIR/debug/mailroom" migrate --data "$work/data" >/dev/null
if ! why=$("$MAILROOM_TEST_OLD" migrate --data "$work/data" 2>&1); then
    skips="--skip upgrade::back::"
    echo "left out, since the old program refuses the tables of the new one ($why):"
    echo "  upgrade::back::  going back to the old version, and an old node that begins again beside new ones"
fi
[ $# -gt 0 ] || set -- upgrade::
# shellcheck disable=SC2086 # a list of words
"$cargo" test --test it -- --ignored --test-threads 2 $skips "$@"
