#!/bin/bash
# Unpacks Debian 12's qemu-system for x86 into a folder and prints the command that starts it. Nothing is installed: the
# package conflicts with newer qemu-utils, but its files run from anywhere.
#
#   tests/truth/qemu.sh DIR
set -euo pipefail
export LC_ALL=C

dir=$1
if [ ! -x "$dir/usr/bin/qemu-system-x86_64" ]; then
    mkdir -p "$dir/debs"
    # The plain name may mean a newer one from elsewhere.
    version() { apt-cache madison "$1" | awk -F'[| ]+' '/bookworm/ { print $3; exit }'; }
    packages=()
    for name in qemu-system-x86 qemu-system-common qemu-system-data seabios; do
        found=$(version "$name")
        packages+=("$name${found:+=$found}")
    done
    (cd "$dir/debs" && apt-get -q download -o APT::Sandbox::User=root "${packages[@]}") >&2
    for deb in "$dir"/debs/*.deb; do dpkg -x "$deb" "$dir"; done
    # Its libraries conflict with nothing.
    if ldd "$dir/usr/bin/qemu-system-x86_64" | grep -q 'not found'; then
        mapfile -t libraries < <(dpkg-deb -f "$dir"/debs/qemu-system-x86_*.deb Depends | tr ',' '\n' \
            | sed 's/[ (|:].*//; s/^ *//' | sed 's/^ *//; s/ .*//' | grep '^lib')
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${libraries[@]}" >&2
    fi
fi
printf '%s\n' "$dir/usr/bin/qemu-system-x86_64"
