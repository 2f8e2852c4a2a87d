#!/bin/sh
# Prints where the server is that speaks S3 for the tests (moto, from PyPI); installs it when it is missing.
set -eu

version=5.2.5
tools=${MAILROOM_TEST_TOOLS:-$HOME/.cache/mailroom-tools}
place=$tools/moto-$version
mkdir -p "$tools"
exec 9>"$place.lock"
flock 9
if [ ! -e "$place/ready" ]; then
    rm -rf "$place"
    python3 -m venv "$place" >&2
    "$place/bin/pip" install --quiet --disable-pip-version-check "moto[server,s3]==$version" >&2
    touch "$place/ready"
fi
echo "$place/bin/moto_server"
