#!/usr/bin/env bash
# `make test`: every test of the workspace, with all that they need started before and stopped after.
#
#   test.sh         all of them
#   test.sh etcd    only those that use etcd, for a run against another version of it (`ETCD=3.6 make test-etcd`)
#
# etcd comes from etcd.sh: Debian's 3.4, or with ETCD=3.6 a current one. Docker comes from an engine that answers, or from
# one that docker.sh starts for this run. A machine that cannot have one of them gets a loud list of what was not run; with
# REQUIRE_ALL=1 that is a failure.
set -uo pipefail
cd "$(dirname "$0")/../.."

say() { echo "test.sh: $*"; }

started=""
cleanup() {
    [ -z "$started" ] || sh tests/setup/docker.sh stop "$started"
}
trap cleanup EXIT

not_run=()
engine_folder="$PWD/.local/docker"
engine_was_there=yes
[ -S "$engine_folder/docker.sock" ] || engine_was_there=no
if socket=$(sh tests/setup/docker.sh "$engine_folder" | tail -n 1) && [ -S "$socket" ]; then
    case "$socket" in "$engine_folder"/*) [ "$engine_was_there" = yes ] || started="$engine_folder" ;; esac
    if sh tests/setup/images.sh "$socket"; then
        export MUSTER_TEST_DOCKER="$socket"
        say "docker engine at $socket"
        case "$socket" in
        "$engine_folder"/*)
            # Overlay networks need a swarm; an engine that is not ours is left as it is.
            curl -s --unix-socket "$socket" -X POST -H 'Content-Type: application/json' http://docker/swarm/init \
                -d '{"ListenAddr":"127.0.0.1:2377","AdvertiseAddr":"127.0.0.1"}' >/dev/null
            ;;
        esac
    else
        not_run+=("all tests on docker: the images could not be built")
    fi
else
    not_run+=("all tests on docker: no engine answers and none can be started (docker.sh said why above)")
fi
if etcd=$(sh tests/setup/etcd.sh | tail -n 1) && [ -x "$etcd/etcd" ]; then
    export MUSTER_TEST_ETCD="$etcd"
    say "etcd $("$etcd/etcd" --version | sed -n 's/^etcd Version: //p') in $etcd"
else
    not_run+=("everything on etcd: etcd.sh said above why it has none")
fi
# What the engine suites ask of the kernel; their own list comes at the end.
[ "$(id -u)" = 0 ] && unshare --mount --pid --fork true 2>/dev/null ||
    unshare --user --map-root-user --mount --pid --fork true 2>/dev/null ||
    not_run+=("process engine: everything that needs namespaces: this machine allows none")
[ "$(id -u)" = 0 ] || not_run+=("process engine: limits of memory and processes: they need root, or a delegated cgroup")
for reason in "${not_run[@]}"; do say "NOT RUN: $reason"; done

say "building"
points=(--features muster-coordinator/crash-points)
cargo build --locked --workspace --all-targets "${points[@]}" || exit 1

# What failed is told again at the end, in so few lines that stacks would leave no room for the message.
export RUST_BACKTRACE=0
log=$(mktemp)
status=0
# The features of all runs are the same, or cargo would build the binaries anew between them.
run() {
    cargo test --locked --no-fail-fast "${points[@]}" "$@" 2>&1 | tee -a "$log"
    [ "${PIPESTATUS[0]}" = 0 ] || status=1
}
case "${1:-all}" in
all)
    run --workspace -- --nocapture
    # The short form of `make sim`; its last line counts what it tried.
    simulated=$(mktemp)
    bash tests/setup/sim.sh short 2>&1 | tee "$simulated"
    [ "${PIPESTATUS[0]}" = 0 ] || status=1
    ;;
etcd)
    run --workspace --lib -- --nocapture etcd
    run --workspace --test etcd -- --nocapture
    run --workspace --test e2e --test chaos -- --nocapture leadership refused_over_etcd chaos
    ;;
*)
    say "the argument is etcd or nothing, not '$1'" >&2
    exit 2
    ;;
esac
while IFS= read -r line; do not_run+=("$line"); done < <(grep -a '^NOT RUN: ' "$log" | sed 's/^NOT RUN: //' | sort -u)

sum() { grep -a '^test result: ' "$log" | sed -n "s/.* \([0-9]*\) $1.*/\1/p" | awk '{ total += $1 } END { print total + 0 }'; }
simulations() { [ -z "${simulated:-}" ] || tail -n 1 "$simulated" | sed -n "s/.*\(^\|[^0-9]\)\([0-9][0-9]*\) $1.*/\2/p"; }
passed=$(($(sum passed) + $(simulations passed | grep . || echo 0)))
failed=$(($(sum failed) + $(simulations failed | grep . || echo 0)))
skipped=$(sum ignored)
# Each failed test of the log, with the lines that follow its panic. What is printed by tests beside it may lie between.
failures() {
    awk '
        function forget() { split("", panic); split("", listed); count = 0; listing = 0; left = 0 }
        /^ +(Running|Doc-tests) / { forget(); binary = $0; sub(/^ +(Running )?/, "", binary); sub(/ \(.*/, "", binary) }
        /thread \047.*\047 .*panicked at / { name = $0; sub(/.*thread \047/, "", name); sub(/\047.*/, "", name); left = 13 }
        left > 0 { panic[name] = panic[name] "    " $0 "\n"; left-- }
        /^failures:$/ { listing = 1; count = 0; next }
        listing && /^    [^ ]/ { listed[++count] = substr($0, 5) }
        /^test result: / {
            for (number = 1; number <= count; number++) {
                text = panic[listed[number]]
                printf "\nFAILED: %s in %s\n%s", listed[number], binary, text ? text : "    (no panic under its name)\n"
            }
            forget()
        }
    ' "$log"
}
failures
rm -f "$log" "${simulated:-}"

if [ "${#not_run[@]}" -gt 0 ]; then
    echo
    say "this machine could not run:"
    for reason in "${not_run[@]}"; do echo "  NOT RUN: $reason"; done
    if [ "${REQUIRE_ALL:-0}" = 1 ]; then
        say "REQUIRE_ALL=1: that is a failure"
        status=1
    fi
fi
echo
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
