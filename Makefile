# make run            build and start everything on loopback
# make test           format, lints, unit, integration, deployment and browser tests; does its own set-up
# make test-mysql MAILROOM_TEST_MYSQLD=/usr/sbin/mysqld
#                     what runs on MariaDB, on a MySQL that you bring (scripts/mysql.sh says what it needs)
# make test-upgrade OLD=v0.1.0
#                     an older version (a revision, or a binary) and this one side by side; builds both
# make test-capacity  what things cost at 1, 2 and 4 nodes, 100,000 WebSocket clients; writes docs/capacity-measured.md
# make bench          measure, write docs/benchmarks.md
# make bench-servers  the same on PostgreSQL and with several nodes, docs/benchmarks-servers.md
# make fmt            format

export CARGO_TARGET_DIR ?= $(HOME)/.cache/mailroom-target

CARGO ?= cargo
NPM ?= npm
E2E = tests/e2e

.PHONY: help run build test test-mysql test-upgrade test-capacity bench bench-servers fmt setup setup-bench lint unit check-js browser

help:
	@sed -n 's/^# //p' Makefile

run:
	$(CARGO) run --release --bin mailroom -- serve

build:
	$(CARGO) build --release --bin mailroom

fmt:
	$(CARGO) fmt --all

test:
	@scripts/test.sh

test-mysql:
	@scripts/mysql.sh

test-upgrade:
	@OLD="$(OLD)" scripts/upgrade.sh

bench: setup-bench
	$(CARGO) build --release --bin mailroom --example constant
	python3 scripts/bench --binary $(CARGO_TARGET_DIR)/release/mailroom \
		--constant $(CARGO_TARGET_DIR)/release/examples/constant --write docs/benchmarks.md

bench-servers: setup-bench
	$(CARGO) build --release --bin mailroom --example constant
	python3 scripts/bench postgres nodes --binary $(CARGO_TARGET_DIR)/release/mailroom \
		--constant $(CARGO_TARGET_DIR)/release/examples/constant --write docs/benchmarks-servers.md

test-capacity: setup-bench
	$(CARGO) build --release --bin mailroom
	python3 scripts/capacity --binary $(CARGO_TARGET_DIR)/release/mailroom --write docs/capacity-measured.md

setup:
	@scripts/setup.sh test

setup-bench:
	@scripts/setup.sh bench

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

unit:
	$(CARGO) test --workspace

check-js:
	cd $(E2E) && $(NPM) ci --no-audit --no-fund && $(NPM) run --silent check

browser: check-js
	$(CARGO) build --bin mailroom
	cd $(E2E) && MAILROOM_E2E_BIN=$(CARGO_TARGET_DIR)/debug/mailroom $(NPM) test
