#!/usr/bin/env bash
# `make bench`: optimised binaries, a Docker engine if one can be had, then every measurement with the load beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked --workspace --bins
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
"${CARGO_TARGET_DIR:-target}/release/muster-bench" "${docker[@]}" "$@"
