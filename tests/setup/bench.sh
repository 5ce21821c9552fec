#!/usr/bin/env bash
# `make bench`: optimised binaries, etcd, a Docker engine if one can be had, then every measurement with the load beside it.
#
#   bench.sh [--only create|jobs|gangs|failover|containers]
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked --workspace --bins
bench="${CARGO_TARGET_DIR:-target}/release/muster-bench"
only=all
[ "${1:-}" != --only ] || only=${2:-}
case "$only" in
all | failover)
    MUSTER_TEST_ETCD=$(sh tests/setup/etcd.sh | tail -n 1)
    export MUSTER_TEST_ETCD
    ;;
esac
case "$only" in
all | containers) ;;
*) exec "$bench" "$@" ;;
esac
started=""
cleanup() { [ -z "$started" ] || sh tests/setup/docker.sh stop "$started"; }
trap cleanup EXIT
docker=()
folder="$PWD/.local/docker"
was_there=no
[ ! -S "$folder/docker.sock" ] || was_there=yes
if socket=$(sh tests/setup/docker.sh "$folder" | tail -n 1) && [ -S "$socket" ] && sh tests/setup/images.sh "$socket"; then
    case "$socket" in "$folder"/*) [ "$was_there" = yes ] || started="$folder" ;; esac
    docker=(--docker "$socket")
fi
"$bench" "${docker[@]}" "$@"
