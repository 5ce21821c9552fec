#!/bin/sh
# Builds the images of the tests and the demo inside an engine, without pulling anything.
#
#   images.sh SOCKET
#
#   muster/busybox:1     a static busybox with links for all of its applets
#   acme/batch:1.0.0     the same with /bin/acme-batch; its entry point is a trap: Muster must never run it
#
# Needs curl, tar and a static busybox (Debian: busybox-static; installed if missing and we are root). Images that are
# there already and were made from the same files are left alone.
set -eu

[ $# -eq 1 ] || { echo "usage: images.sh SOCKET" >&2; exit 2; }
socket=$1
here=$(cd "$(dirname "$0")" && pwd)
say() { echo "images.sh: $*" >&2; }

ask() { curl -sS --max-time 60 --unix-socket "$socket" "$@"; }
[ "$(ask http://docker/_ping)" = OK ] || { say "no engine answers at $socket; run docker.sh first"; exit 1; }

static_busybox() {
    for candidate in /usr/bin/busybox /bin/busybox; do
        # A dynamic program names its loader in its first page, and cannot run in an image that holds nothing else.
        if [ -x "$candidate" ] && ! head -c 2048 "$candidate" | grep -aq 'ld-linux\|ld-musl'; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}
if ! busybox=$(static_busybox); then
    say "installing Debian's busybox-static"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends busybox-static >&2 ||
        { say "there is no static busybox; install the package busybox-static"; exit 1; }
    busybox=$(static_busybox)
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
digest=$(cat "$busybox" "$here/images/acme-batch" "$here/images.sh" | sha256sum | cut -c 1-16)

make_root() {
    mkdir -p "$1/bin" "$1/etc" "$1/tmp" "$1/root" "$1/work" "$1/etc/ucloud"
    chmod 1777 "$1/tmp"
    cp "$busybox" "$1/bin/busybox"
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$1/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
}

# import NAME TAG FOLDER [CHANGE...]: makes an image of a folder, unless the engine has it from the same files.
import() {
    name=$1 tag=$2 folder=$3
    shift 3
    if ask "http://docker/images/$name:$tag/json" | grep -q "\"muster.test.digest\":\"$digest\""; then
        say "$name:$tag is there"
        return 0
    fi
    changes=
    for change; do changes="$changes&changes=$change"; done
    tar -C "$folder" --numeric-owner --owner=0 --group=0 -cf "$work/image.tar" .
    # Blanks of a change are written as %20.
    answer=$(ask -X POST -H 'Content-Type: application/x-tar' --data-binary "@$work/image.tar" \
        "http://docker/images/create?fromSrc=-&repo=$name&tag=$tag&changes=LABEL%20muster.test.digest=$digest$changes")
    case "$answer" in
    *'"error"'* | *'"message"'*)
        say "$name:$tag could not be made: $answer"
        exit 1
        ;;
    esac
    say "made $name:$tag"
}

make_root "$work/busybox"
import muster/busybox 1 "$work/busybox" 'ENV%20PATH=/bin' 'WORKDIR%20/root'
make_root "$work/batch"
cp "$here/images/acme-batch" "$work/batch/bin/acme-batch"
chmod 755 "$work/batch/bin/acme-batch"
import acme/batch 1.0.0 "$work/batch" 'ENV%20PATH=/bin' \
    'ENTRYPOINT%20%5B%22/bin/echo%22,%22the%20entry%20point%20of%20the%20image%20ran%22%5D'
