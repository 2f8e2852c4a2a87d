#!/bin/sh
# Everything a change has to pass, each step even when one before it failed; a summary at the end.
# MAILROOM_TEST_STEPS="lint unit" runs some of them only.
set -u
cd "$(dirname "$0")/.." || exit 1

scripts/setup.sh test || exit 1

: "${CARGO_TARGET_DIR:=$HOME/.cache/mailroom-target}"
export CARGO_TARGET_DIR
CARGO=${CARGO:-cargo}
NPM=${NPM:-npm}
steps=${MAILROOM_TEST_STEPS:-format lint unit integration integration-postgres integration-mariadb deploy docs javascript browser}
summary=
failed=0

format() { "$CARGO" fmt --all --check; }
lint() { "$CARGO" clippy --workspace --all-targets -- -D warnings; }
unit() { "$CARGO" test --workspace --lib --bins; }
# Tests wait for servers more than they compute: four at once also where there are two cores.
threads=$(nproc 2>/dev/null || echo 4)
[ "$threads" -ge 4 ] || threads=4
integration() { "$CARGO" build --bin mailroom && RUST_TEST_THREADS=$threads "$CARGO" test --test it -- --skip deploy::; }
# What stands around the server: nginx before it, compose, Kubernetes, Prometheus. Two at a time: they restart servers under load.
deploy() { "$CARGO" build --bin mailroom && "$CARGO" test --test it -- --test-threads 2 deploy::; }
# The same suite once more with the store on a server and Redis beside it, on PostgreSQL with RabbitMQ before it. The store suite itself
# is part of the first run, on every engine.
integration_postgres() { RUST_TEST_THREADS=$threads scripts/engine.sh postgres; }
integration_mariadb() { RUST_TEST_THREADS=$threads scripts/engine.sh mariadb; }
docs() { "$CARGO" test --workspace --doc && RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" "$CARGO" doc --workspace --no-deps --quiet; }
javascript() { (cd tests/e2e && "$NPM" ci --no-audit --no-fund && "$NPM" run --silent check); }
browser() {
    "$CARGO" build --bin mailroom || return 1
    [ -d tests/e2e/node_modules ] || (cd tests/e2e && "$NPM" ci --no-audit --no-fund) || return 1
    (cd tests/e2e && MAILROOM_E2E_BIN="$CARGO_TARGET_DIR/debug/mailroom" "$NPM" test)
}

for step in $steps; do
    echo "==> $step"
    start=$(date +%s)
    if "$(echo "$step" | tr - _)"; then
        result=ok
    else
        result=FAILED
        failed=1
    fi
    summary="$summary$(printf '%-21s %-7s %4d s' "$step" "$result" "$(($(date +%s) - start))")
"
done

echo
echo "==> summary"
printf '%s' "$summary"
exit "$failed"
