#!/usr/bin/env bash
# The simulator: `sim.sh` runs SEEDS worlds (default 1,000), MUTANTS=1 removes each guard until it is missed, `sim.sh short` is
# the form that is part of the tests. Ends with "N passed, M failed".
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --locked --quiet --profile sim -p muster-simulation --features mutants
bin="${CARGO_TARGET_DIR:-target}/sim/muster-simulation"

if [[ ${1:-} == short ]]; then
    passed=0 failed=0
    add() {
        local last
        last=$(tail -n 1 <<<"$1")
        passed=$((passed + ${last%% passed*}))
        last=${last#*, }
        failed=$((failed + ${last%% failed*}))
    }
    # Not from 1 on: the few worlds of `cargo test` are others.
    for words in '--seeds 400 --first 1000' '--twice 20' '--mutants --sample 5 --cap 2000 --within 8'; do
        # shellcheck disable=SC2086
        out=$("$bin" $words) || true
        printf '%s\n' "$out"
        add "$out"
    done
    printf '%s passed, %s failed\n' "$passed" "$failed"
    [[ $failed == 0 ]]
elif [[ -n ${MUTANTS:-} ]]; then
    exec "$bin" --mutants --cap 20000 --within 120
else
    exec "$bin" --seeds "${SEEDS:-1000}" --first "${FIRST:-1}"
fi
