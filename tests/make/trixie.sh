#!/bin/bash
# Gets Debian 13's NBD tools beside this host's: libnbd 1.22 is the client that speaks extended headers, nbdkit 1.42 the
# server that reads qcow2 by itself.
#
#   tests/make/trixie.sh [DIR]       DIR is target/trixie unless given
#
# DIR/run/{nbdinfo,nbdcopy,nbddump,python3,nbdkit}   run as they are, with Debian 13's libraries, on this host's files
# DIR/usr                                            what they are made of; nbdkit's filters: usr/lib/*/nbdkit/filters
#
# The packages are taken apart, not installed: no root, no chroot, and nothing of this host's changes. What was made once
# is kept until this script changes. The mirror is the one this host's own apt uses, or $IMGMOUNT_MIRROR. Needs apt.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mkdir -p "${1:-$here/target/trixie}"
out=$(cd "${1:-$here/target/trixie}" && pwd)
packages=(libnbd-bin python3-libnbd nbdkit)
mirror=${IMGMOUNT_MIRROR:-$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null \
    | awk '$1 == "bookworm" || $1 == "trixie" { print $2; exit }')}
mirror=${mirror:-http://deb.debian.org/debian}
keys=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf 'trixie: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

stamp=$(sha256sum < "${BASH_SOURCE[0]}" | cut -d' ' -f1)
if [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then say "up to date in $out"; exit 0; fi
[ -e "$out/stamp" ] || [ -z "$(ls -A "$out")" ] || die "$out has other things in it"
echo unfinished > "$out/stamp"
[ "$(uname -m)" = x86_64 ] || die "only for amd64"
command -v apt-get dpkg >/dev/null || die "needs apt and dpkg"
[ -r "$keys" ] || die "lacks $keys; get it with: apt-get install -y debian-archive-keyring"

apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
# apt gives up root, if it has it, to a user who must be able to write there.
chmod 755 "$apt"
mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc}
touch "$apt/status"
echo "deb [arch=amd64 signed-by=$keys] $mirror trixie main" > "$apt/etc/sources.list"
apt_get() {
    apt-get -qq -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
        -o Dir::Cache="$apt/cache" -o Dir::Etc="$apt/etc" -o Dir::Etc::sourcelist="$apt/etc/sources.list" \
        -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o APT::Architecture=amd64 \
        -o APT::Install-Recommends=0 -o Acquire::Languages=none -o Debug::NoLocking=1 \
        -o APT::Sandbox::User="$(id -un)" "$@"
}
apt_get update
apt_get install -y --download-only "${packages[@]}" >/dev/null

rm -rf "$out"/{run,usr,bin,lib,lib64,etc,var}
mkdir -p "$out/usr/"{bin,lib,lib64} "$out/run"
# Older packages still say /lib.
for dir in bin lib lib64; do ln -s "usr/$dir" "$out/$dir"; done
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$out" --keep-directory-symlink -xf -
done

# Debian 13's loader runs them with Debian 13's libraries; what they start in turn is this host's.
python=$(basename "$(echo "$out"/usr/bin/python3.??)")
for program in nbdinfo nbdcopy nbddump nbdkit python3; do
    cat > "$out/run/$program" <<SH
#!/bin/sh
root=\$(dirname "\$(dirname "\$(realpath "\$0")")")/usr
$([ $program != python3 ] || echo 'PYTHONHOME=$root PYTHONDONTWRITEBYTECODE=1; export PYTHONHOME PYTHONDONTWRITEBYTECODE')
exec "\$root/lib64/ld-linux-x86-64.so.2" --library-path "\$root/lib/x86_64-linux-gnu" "\$root/bin/${program/python3/$python}" "\$@"
SH
    chmod +x "$out/run/$program"
done
"$out/run/nbdinfo" --version | grep -q libnbd
"$out/run/python3" -c 'import nbd'
echo "$stamp" > "$out/stamp"
say "made $out: $("$out/run/nbdinfo" --version | tail -1), $("$out/run/nbdkit" --version)"
