#!/bin/sh
# Installs the Debian packages that the tests (or, with "bench", the benchmarks) need and that are missing. Without the right
# to install it names them and stops.
set -eu

purpose=${1:-test}
missing=

# need PACKAGE COMMAND...: the package is missing when one of the commands is.
need() {
    package=$1
    shift
    for command in "$@"; do
        if ! command -v "$command" >/dev/null 2>&1; then
            missing="$missing $package"
            return
        fi
    done
}

# need_file PACKAGE PATTERN: the package is missing when no file matches.
need_file() {
    package=$1
    shift
    for file in "$@"; do
        if [ -e "$file" ]; then
            return
        fi
    done
    missing="$missing $package"
}

PATH=$PATH:/usr/sbin:/sbin
need gcc gcc
need make make
need_file libc6-dev /usr/include/stdio.h
need pkg-config pkg-config
need curl curl
need python3 python3
if [ "$purpose" = test ]; then
    need swaks swaks
    need_file python3-venv /usr/lib/python3*/ensurepip/__init__.py
    need strace strace
    need util-linux unshare nsenter setsid setpriv prlimit
    need mount mount
    need bash bash
    need_file postgresql /usr/lib/postgresql/*/bin/postgres
    need_file postgresql-client /usr/lib/postgresql/*/bin/psql
    need mariadb-server mariadbd mariadb-install-db
    need mariadb-client mariadb mariadb-dump
    need redis-server redis-server
    need redis-tools redis-cli
    need rabbitmq-server rabbitmqctl
    need nginx nginx
    need_file libnginx-mod-stream /usr/lib/nginx/modules/ngx_stream_module.so
    need chromium chromium
    need nodejs node
    need npm npm
    need openssl openssl
    need prometheus promtool
    need docker-compose docker-compose
    need systemd systemd-analyze
    need_file python3-yaml /usr/lib/python3/dist-packages/yaml/__init__.py
    need_file fonts-noto-cjk /usr/share/fonts/opentype/noto/NotoSansCJK*
    need_file fonts-dejavu-core /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
fi
if [ "$purpose" = bench ]; then
    need postfix postfix smtp-source smtp-sink
    need_file postgresql /usr/lib/postgresql/*/bin/postgres
    need_file postgresql-client /usr/lib/postgresql/*/bin/psql
    need redis-server redis-server
    need iproute2 ss
fi

if ! command -v "${CARGO:-cargo}" >/dev/null 2>&1; then
    echo "setup: cargo is missing: install Rust 1.95 or newer (https://rustup.rs)" >&2
    exit 1
fi

# What checks the Kubernetes manifests is no Debian package: it stands in a directory of its own, with the schemas.
kubernetes_validate() {
    directory=${MAILROOM_TEST_TOOLS:-$HOME/.cache/mailroom-tools}/kubernetes-validate
    if [ "$purpose" != test ] || [ -x "$directory/bin/kubernetes-validate" ]; then
        return
    fi
    echo "setup: installing kubernetes-validate from PyPI into $directory"
    rm -rf "$directory"
    if ! { python3 -m venv "$directory" && "$directory/bin/pip" install -q --disable-pip-version-check kubernetes-validate==1.37.0; }; then
        rm -rf "$directory"
        echo "setup: kubernetes-validate 1.37.0 could not be installed from PyPI" >&2
        exit 1
    fi
}

if [ -z "$missing" ]; then
    kubernetes_validate
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: these packages are missing:$missing" >&2
    echo "setup: install them, for example with: sudo apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

# No package may start a server of its own while it is installed (postfix would take port 25).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 # a list of words
install_packages() {
    apt-get install -y -q --no-install-recommends $missing >"$log" 2>&1
}
if ! install_packages; then
    if ! apt-get update -q >>"$log" 2>&1 || ! install_packages; then
        cat "$log" >&2
        rm -f "$log"
        echo "setup: the packages could not be installed:$missing" >&2
        exit 1
    fi
fi
rm -f "$log"
kubernetes_validate
