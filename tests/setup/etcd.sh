#!/bin/sh
# Makes an etcd server and etcdctl available for tests and the demo, and starts nothing.
#
#   etcd.sh [FOLDER]     prints the folder that holds `etcd` and `etcdctl` as its last line
#
# ETCD=3.4 (or unset): what is installed if it is 3.4, else Debian's packages etcd-server and etcd-client, unpacked
# under FOLDER (default .local/etcd in the repository). They are not installed: that would start a service and enable it
# for every boot. Debian 12 has 3.4; a newer one gives a newer etcd, and the script says which.
# ETCD=3.6: etcd 3.6.16, built once under FOLDER with Go through the Go module proxy (about one minute on 2 cores).
#
# Asks nothing; two calls at once wait for each other. openssl, which makes the certificates of tests with TLS, is
# installed if it is missing.
set -eu

repository=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$repository/.local/etcd}
wanted=${ETCD:-3.4}
current=3.6.16

say() { echo "etcd.sh: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

log=
work=
cleanup() { rm -rf ${log:+"$log"} ${work:+"$work"}; }
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# Runs a command whose output matters only if it fails. What it leaves running must not hold the lock (9).
quietly() { "$@" >>"$log" 2>&1 9>&-; }
complain() {
    tail -n 8 "$log" >&2
    fail "$*"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        say "this needs root, and sudo asks for a password; run once as root: $*"
        return 1
    fi
}

need_openssl() {
    command -v openssl >/dev/null 2>&1 && return 0
    command -v apt-get >/dev/null 2>&1 || fail "openssl is missing; install it with your package manager"
    say "installing openssl"
    quietly as_root apt-get update -q || complain "apt-get could not read its lists"
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends openssl ||
        complain "apt-get could not install openssl"
}

# The version of the etcd in a folder, with its etcdctl beside it; fails if either does not run.
version_in() {
    [ -x "$1/etcd" ] && [ -x "$1/etcdctl" ] && "$1/etcdctl" version >/dev/null 2>&1 || return 1
    "$1/etcd" --version 2>/dev/null | sed -n 's/^etcd Version: //p' | grep .
}

# Puts what was made in $work into its place, in one step, and prints that.
finish() {
    version=$(version_in "$work/bin") || fail "the etcd that was made does not run on this machine"
    case "$version" in
    [0-2].* | 3.[0-3].*) fail "etcd $version is too old, Muster needs 3.4 or newer; use ETCD=3.6, which needs Go" ;;
    esac
    rm -rf "$1"
    mkdir "$1"
    mv "$work/bin" "$1/bin"
    say "etcd $version is in $1/bin"
    echo "$1/bin"
}

unpack_debian() {
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
        fail "this is no Debian; put etcd and etcdctl 3.4 on the PATH, or use ETCD=3.6, which needs Go"
    say "fetching Debian's etcd-server and etcd-client"
    mkdir "$work/packages"
    cd "$work/packages"
    if ! quietly apt-get download -q etcd-server etcd-client; then
        # No lists yet, or they name versions that are gone.
        quietly as_root apt-get update -q || complain "apt-get could not read its lists"
        quietly apt-get download -q etcd-server etcd-client || complain "apt-get could not fetch etcd-server and etcd-client"
    fi
    for package in "$work"/packages/*.deb; do
        quietly dpkg-deb -x "$package" "$work/root" || complain "$package could not be unpacked"
    done
    mv "$work/root/usr/bin" "$work/bin"
}

build_current() {
    command -v go >/dev/null 2>&1 ||
        fail "ETCD=3.6 is built from source and needs Go 1.26 or newer, which is missing (Debian's golang is older); \
put a current Go on the PATH. Without one, ETCD=3.4 still works"
    say "building etcd $current with $(go version | cut -d ' ' -f 3); this takes a minute or two"
    mkdir "$work/module"
    cd "$work/module"
    # The repository around this folder is none of this build's business.
    export GOWORK=off GOFLAGS=-buildvcs=false
    server=go.etcd.io/etcd/server/v3
    control=go.etcd.io/etcd/etcdctl/v3
    quietly go mod init x || complain "go mod init failed"
    quietly go get "$server@v$current" "$control@v$current" || complain "Go could not fetch etcd $current; it needs Go 1.26 or newer and the module proxy"
    quietly go build -mod=mod -trimpath -o "$work/bin/" "$server" "$control" || complain "etcd $current does not build"
    # The main program is the module's root package, and takes its name.
    mv "$work/bin/server" "$work/bin/etcd"
}

case "$wanted" in
3.4) place=debian ;;
3.6) place=$current ;;
*) fail "ETCD is 3.4 (Debian's packages) or 3.6 (etcd $current, built here), not '$wanted'" ;;
esac

log=$(mktemp)
need_openssl

if [ "$wanted" = 3.4 ] && installed=$(command -v etcd) && installed=$(dirname "$installed") &&
    version=$(version_in "$installed"); then
    case "$version" in
    3.4.*)
        say "etcd $version is installed"
        echo "$installed"
        exit 0
        ;;
    esac
fi

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
exec 9>"$folder/lock"
flock -n 9 || { say "waiting for another etcd.sh" && flock 9; }
if version=$(version_in "$folder/$place/bin"); then
    say "etcd $version is in $folder/$place/bin"
    echo "$folder/$place/bin"
    exit 0
fi
# What a call that was killed left behind; nobody else is here now.
rm -rf "$folder"/work.*
work=$(mktemp -d "$folder/work.XXXXXX")
if [ "$wanted" = 3.4 ]; then unpack_debian; else build_current; fi
finish "$folder/$place"
