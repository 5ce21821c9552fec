#!/usr/bin/env bash
# The dependency policy of deny.toml. cargo-deny is built once, into .local/tools, unless the machine has it.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.20.2
deny=$(command -v cargo-deny || true)
if [ -z "$deny" ]; then
    deny="$PWD/.local/tools/bin/cargo-deny"
    if [ ! -x "$deny" ]; then
        echo "deny.sh: building cargo-deny $version (once, about four minutes)"
        # Its own target folder and toolchain file: the project's do not apply to it.
        cargo install --quiet --locked --root "$PWD/.local/tools" --version "$version" cargo-deny
    fi
fi
"$deny" --locked check --hide-inclusion-graph bans licenses sources
