#!/bin/sh
# Installs what the build and the demo need from Debian, if it is missing: a C compiler (aws-lc), protoc (etcd-client and
# our own proto), a static busybox (what demo jobs run), curl. Asks nothing; says what it does.
set -eu

say() { echo "packages.sh: $*" >&2; }

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need cc gcc
need protoc protobuf-compiler
need curl curl
[ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || missing="$missing busybox-static"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    say "missing:$missing. This is no Debian; install them with your own package manager and try again"
    exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        say "missing:$missing. Run once, as root: apt-get install -y$missing"
        exit 1
    fi
    as_root="sudo -n"
fi
say "installing$missing"
log=$(mktemp)
if ! { $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    say "apt-get could not install:$missing"
    exit 1
fi
rm -f "$log"
