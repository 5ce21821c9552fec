#!/bin/sh
# Makes a Docker Engine available for tests and the demo.
#
#   docker.sh [FOLDER]        prints the path of the engine's socket as its last line
#   docker.sh stop [FOLDER]   stops the engine that was started under FOLDER, and nothing else
#
# If an engine answers already (DOCKER_HOST=unix://..., or /var/run/docker.sock), it is used as it is. Otherwise, as
# root, a dockerd is started by hand whose data, state, pid file and socket all live under FOLDER (default
# .local/docker in the repository), so that it disturbs no other engine; Debian's docker.io and iptables are installed
# first if dockerd is missing. A machine that cannot run one: exit code 3 and the reason in one line.
set -eu

repository=$(cd "$(dirname "$0")/../.." && pwd)

say() { echo "docker.sh: $*" >&2; }
cannot() {
    say "cannot run a Docker Engine here: $*"
    exit 3
}

# Asks the engine behind a socket whether it lives. Needs curl, which every builder has.
answers() { [ -S "$1" ] && [ "$(curl -s --max-time 5 --unix-socket "$1" http://docker/_ping 2>/dev/null)" = OK ]; }

# The pid in a file, if it is that of a live process with this argument: numbers are used again, and one of a process
# that is dead and not yet reaped has no arguments.
pid_of() {
    pid=$(cat "$1" 2>/dev/null) || return 1
    [ -r "/proc/$pid/cmdline" ] && tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF -e "$2" || return 1
    echo "$pid"
}

# The pid of the dockerd under a folder, if this script started it and it still runs.
running_pid() { pid_of "$1/docker.pid" "--pidfile=$1/docker.pid"; }

stop_engine() {
    if ! pid=$(running_pid "$1"); then
        say "nothing runs under $1"
        return 0
    fi
    kill -TERM "$pid"
    waited=0
    while kill -0 "$pid" 2>/dev/null; do
        # dockerd gives containers 15 s; a container that clings to life is killed by it after that.
        if [ "$waited" -ge 300 ]; then
            say "dockerd $pid did not stop in 30 s; killing it"
            kill -KILL "$pid"
            break
        fi
        waited=$((waited + 1))
        sleep 0.1
    done
    rm -f "$1/docker.pid" "$1/docker.sock"
    # dockerd leaves its own network namespace mounted, and a folder with a mount in it cannot be removed.
    umount "$1/exec/netns/default" 2>/dev/null || true
    say "stopped the engine under $1"
}

install_engine() {
    command -v apt-get >/dev/null || cannot "dockerd is missing and this is no Debian; install Docker Engine 20.10 or newer"
    say "installing Debian's docker.io and iptables"
    log=$(mktemp)
    # No service may be started by the packages: the engine is started below, by hand.
    if ! { apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends docker.io iptables; } >"$log" 2>&1; then
        reason=$(tail -n 1 "$log")
        rm -f "$log"
        cannot "apt-get could not install docker.io: $reason"
    fi
    rm -f "$log"
}

start_engine() {
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
    socket=$folder/docker.sock
    # containerd makes sockets below this folder; the kernel takes 107 bytes.
    [ "${#folder}" -le 70 ] || cannot "the path $folder is too long for sockets; take one of at most 70 characters"
    if running_pid "$folder" >/dev/null && answers "$socket"; then
        say "the engine under $folder runs already"
        echo "$socket"
        return 0
    fi
    [ "$(id -u)" = 0 ] || cannot "no engine answers, and starting one needs root"
    if ! command -v dockerd >/dev/null || ! command -v iptables >/dev/null; then install_engine; fi
    command -v dockerd >/dev/null || cannot "dockerd is missing after its installation"
    # bridge=none: Muster makes a network for each job and needs no default one. live-restore is left off as by default.
    # A dockerd that was killed leaves pid files behind, its own and its containerd's, and the next one would wait for
    # whatever has those numbers.
    rm -f "$folder/docker.pid"
    containerd=$folder/exec/containerd
    pid_of "$containerd/containerd.pid" "$containerd/containerd.toml" >/dev/null || rm -f "$containerd/containerd.pid"
    # The empty configuration keeps /etc/docker/daemon.json, which belongs to another engine, out of this one.
    echo '{}' >"$folder/daemon.json"
    nohup setsid dockerd --data-root="$folder/data" --exec-root="$folder/exec" --pidfile="$folder/docker.pid" \
        --host="unix://$socket" --bridge=none --config-file="$folder/daemon.json" \
        >"$folder/dockerd.log" 2>&1 </dev/null &
    starter=$!
    waited=0
    until answers "$socket"; do
        if ! kill -0 "$starter" 2>/dev/null && ! running_pid "$folder" >/dev/null; then
            cannot "$(grep -v level=info "$folder/dockerd.log" | tail -n 1)"
        fi
        if [ "$waited" -ge 600 ]; then
            stop_engine "$folder"
            cannot "dockerd did not answer in 60 s; see $folder/dockerd.log"
        fi
        waited=$((waited + 1))
        sleep 0.1
    done
    # Ranks of one job talk over a bridge. Where bridged packets pass the firewall (br_netfilter) and its policy is to
    # drop, Docker's own rules let them through; say so if they are missing.
    if [ "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || echo 0)" = 1 ] &&
        iptables -S FORWARD 2>/dev/null | grep -q '^-P FORWARD DROP' &&
        ! iptables -S FORWARD 2>/dev/null | grep -q 'DOCKER'; then
        say "warning: the firewall drops bridged packets and has no rules of Docker; ranks may not reach each other"
    fi
    [ -z "${SOCKET_OWNER:-}" ] || chown "$SOCKET_OWNER" "$socket"
    say "started dockerd $(cat "$folder/docker.pid") under $folder"
    echo "$socket"
}

# What only root may do is done through sudo for others; the socket is then theirs.
as_root() {
    if [ "$(id -u)" -ne 0 ] && sudo -n true 2>/dev/null; then
        exec sudo -n SOCKET_OWNER="$(id -u)" sh "$0" "$@"
    fi
}

if [ "${1:-}" = stop ]; then
    as_root "$@"
    folder=${2:-$repository/.local/docker}
    [ -d "$folder" ] || exit 0
    stop_engine "$(cd "$folder" && pwd)"
    exit 0
fi

case "${DOCKER_HOST:-}" in
unix://*) candidate=${DOCKER_HOST#unix://} ;;
*) candidate=/var/run/docker.sock ;;
esac
if answers "$candidate"; then
    say "an engine answers at $candidate"
    echo "$candidate"
    exit 0
fi
as_root "${1:-$repository/.local/docker}"
start_engine "${1:-$repository/.local/docker}"
