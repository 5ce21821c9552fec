#!/bin/sh
# Picks the demo's engine, says which, builds, and runs it: demo.sh [auto|docker|process] [DURATION] [embedded|etcd]
#
# auto uses a Docker engine that answers (its images are made here from a static busybox, nothing is pulled), else the
# process engine. docker starts an engine of its own if none answers, and stops it afterwards. DURATION is how long the
# cluster stays up after its jobs. etcd is three coordinators over three members of it, instead of one coordinator with
# a file; the leader is killed in the middle.
set -eu
cd "$(dirname "$0")/../.."
engine=${1:-auto}
duration=${2:-}
store=${3:-embedded}
case "$store" in
embedded | etcd) ;;
*)
    echo "demo.sh: STORE is embedded or etcd, not '$store'" >&2
    exit 2
    ;;
esac

answers() { [ -S "$1" ] && [ "$(curl -s --max-time 5 --unix-socket "$1" http://docker/_ping 2>/dev/null)" = OK ]; }

# How far the process engine can keep ranks apart here.
isolation() {
    if [ "$(id -u)" = 0 ] && unshare --mount --pid --fork true 2>/dev/null; then
        echo "ranks run in namespaces of their own"
    elif unshare --user --map-root-user --mount --pid --fork true 2>/dev/null; then
        echo "ranks run in user namespaces of their own"
    else
        echo "this machine allows no namespaces: ranks are plain children, UCLOUD_ETC names their folder"
    fi
}

case "${DOCKER_HOST:-}" in
unix://*) candidate=${DOCKER_HOST#unix://} ;;
*) candidate=/var/run/docker.sock ;;
esac
socket=
case "$engine" in
auto) if answers "$candidate"; then socket=$candidate; fi ;;
docker) if answers "$candidate"; then socket=$candidate; else socket=own; fi ;;
process) ;;
*)
    echo "demo.sh: ENGINE is auto, docker or process, not '$engine'" >&2
    exit 2
    ;;
esac
case "$socket" in
'') echo "engine: process (no Docker engine answers, or another was asked for); $(isolation)" ;;
own) echo "engine: docker (one of our own is started under .local/docker)" ;;
*) echo "engine: docker ($socket)" ;;
esac

sh tests/setup/packages.sh
if [ "$store" = etcd ]; then
    MUSTER_TEST_ETCD=$(sh tests/setup/etcd.sh | tail -n 1)
    [ -x "$MUSTER_TEST_ETCD/etcd" ] || exit 1
    export MUSTER_TEST_ETCD
fi
echo "building (the first time takes some minutes)"
cargo build --quiet --locked --workspace --bins

own=
stop_own() { [ -z "$own" ] || sh tests/setup/docker.sh stop; }
trap stop_own EXIT
if [ "$socket" = own ]; then
    socket=$(sh tests/setup/docker.sh | tail -n 1)
    own=yes
fi
[ -z "$socket" ] || sh tests/setup/images.sh "$socket"

set -- "${CARGO_TARGET_DIR:-target}/debug/muster-demo"
[ -z "$socket" ] || set -- "$@" --docker "$socket"
[ "$store" = embedded ] || set -- "$@" --etcd
[ -z "$duration" ] || set -- "$@" --duration "$duration"
"$@"
