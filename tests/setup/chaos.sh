#!/usr/bin/env bash
# `make chaos`: installs what it needs, builds, and runs it: chaos.sh [auto|docker|process] [MINUTES] [KILLS] [SEED]
#
# docker gives one of the four workers a Docker engine of its own under .local/chaos-docker, which is stopped and killed
# with everything else; that needs root. Without MINUTES and KILLS it goes on until 50 leaders were killed.
set -euo pipefail
cd "$(dirname "$0")/../.."
engine=${1:-auto}
case "$engine" in
auto | process | docker) ;;
*)
    echo "chaos.sh: ENGINE is auto, process or docker, not '$engine'" >&2
    exit 2
    ;;
esac
MUSTER_TEST_ETCD=$(sh tests/setup/etcd.sh | tail -n 1)
export MUSTER_TEST_ETCD
arguments=()
[ -z "${2:-}" ] || arguments+=(--minutes "$2")
[ -z "${3:-}" ] || arguments+=(--kills "$3")
[ -z "${4:-}" ] || arguments+=(--seed "$4")
if [ "$engine" = docker ]; then
    if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
        echo "chaos.sh: ENGINE=docker needs root and dockerd (Debian's docker.io)" >&2
        exit 2
    fi
    arguments+=(--docker-folder .local/chaos-docker)
fi
cargo build --quiet --locked --workspace --bins
"${CARGO_TARGET_DIR:-target}/debug/muster-chaos" "${arguments[@]}"
