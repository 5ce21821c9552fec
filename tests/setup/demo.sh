#!/bin/sh
# Picks the demo's engine and runs it: demo.sh [auto|docker|process] [DURATION]
#
# auto uses a Docker engine that answers (its images are made here from a static busybox, nothing is pulled), else the
# process engine. docker starts an engine of its own if none answers. An argument that starts with a digit is how long the
# cluster stays up after its jobs.
set -eu
cd "$(dirname "$0")/../.."
engine=${1:-auto}
duration=${2:-}

answers() { [ -S "$1" ] && [ "$(curl -s --max-time 5 --unix-socket "$1" http://docker/_ping 2>/dev/null)" = OK ]; }

socket=
case "$engine" in
auto)
    case "${DOCKER_HOST:-}" in
    unix://*) candidate=${DOCKER_HOST#unix://} ;;
    *) candidate=/var/run/docker.sock ;;
    esac
    if answers "$candidate" && sh tests/setup/images.sh "$candidate"; then
        socket=$candidate
    fi
    ;;
docker)
    socket=$(sh tests/setup/docker.sh | tail -n 1)
    sh tests/setup/images.sh "$socket"
    ;;
process) ;;
*)
    echo "demo.sh: ENGINE is auto, docker or process, not '$engine'" >&2
    exit 2
    ;;
esac

target=${CARGO_TARGET_DIR:-target}
set -- "$target/debug/muster-demo"
[ -z "$socket" ] || set -- "$@" --docker "$socket"
[ -z "$duration" ] || set -- "$@" --duration "$duration"
exec "$@"
