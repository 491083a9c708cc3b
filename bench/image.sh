#!/bin/bash
# Makes the disk that the serving figures are taken on, once, in each format: bench/image.sh [DIR]
#
#   DIR (target/bench unless given; 17 GiB)
#   disk.raw           4 GiB, GPT, one ext4 from sector 2048: /usr and /etc of this host up to 1.2 GiB, then made-up packages until
#                      there are 65,000 paths, 512 MiB that do not pack, 384 MiB that do
#   disk.qcow2  disk-zlib.qcow2  disk-zstd.qcow2  disk-sparse.vmdk  disk-so.vmdk (streamOptimized)  disk.vhd  disk.vhdx  disk.vdi
#
# Needs root, for the mount that fills it.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
out=${1:-$(dirname "${BASH_SOURCE[0]}")/../target/bench}
paths=65000

lacks=()
need() { command -v "$1" >/dev/null || lacks+=("$2"); }
need qemu-img qemu-utils; need mkfs.ext4 e2fsprogs; need sfdisk fdisk; need losetup mount; need openssl openssl; need python3 python3
[ ${#lacks[@]} = 0 ] || { echo "bench/image.sh: lacks ${lacks[*]}; get them with: apt-get install -y ${lacks[*]}" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "bench/image.sh: needs root: sudo bench/image.sh" >&2; exit 1; }

mkdir -p "$out"
cd "$out"
[ ! -e stamp ] || { echo "bench/image.sh: $PWD is there; remove it to make it anew"; exit 0; }

work=$(mktemp -d -p "$PWD")
loop=
cleanup() {
    ! mountpoint -q "$work/at" || umount "$work/at"
    [ -z "$loop" ] || losetup -d "$loop"
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
mkdir "$work/at"

rm -f disk*
truncate -s 4G disk.raw
sfdisk -q disk.raw <<< $'label: gpt\nstart=2048, type=linux'
sectors=$(sfdisk -J disk.raw | python3 -c 'import json, sys; print(json.load(sys.stdin)["partitiontable"]["partitions"][0]["size"])')
loop=$(losetup -f --show -o $((2048 * 512)) --sizelimit $((sectors * 512)) disk.raw)
mkfs.ext4 -q -L root -N 200000 "$loop"
mount "$loop" "$work/at"

mib() { df -m --output=used "$work/at" | tail -n1; }
mkdir -p "$work"/at/{boot,big,usr}
cp -a /etc "$work/at/"
rm -f "$work"/at/etc/{shadow,gshadow}*
echo 'LABEL=root / ext4 defaults 0 1' > "$work/at/etc/fstab"
for dir in /usr/share /usr/bin /usr/sbin /usr/include /usr/lib/*; do
    [ -d "$dir" ] && [ ! -L "$dir" ] || continue
    [ $(($(mib) + $(du -sm "$dir" | cut -f1))) -le 1250 ] || continue
    mkdir -p "$work/at${dir%/*}"
    cp -a "$dir" "$work/at${dir%/*}/"
done
# What this host lacks in paths: packages of 97 short files.
python3 - "$work/at" "$paths" <<'FILL'
import os, random, sys

root, rng = sys.argv[1], random.Random(7)
there = sum(len(folders) + len(files) for _, folders, files in os.walk(root))
for package in range(max(0, (int(sys.argv[2]) - there) // 98)):
    folder = os.path.join(root, "usr/share/made-up", f"package-{package}")
    os.makedirs(folder)
    for number in range(97):
        with open(os.path.join(folder, f"some-file-{number}.txt"), "wb") as file:
            file.write(rng.randbytes(int(rng.expovariate(1 / 2000))))
FILL
head -c 512M /dev/zero | openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff -iv 00000000000000000000000000000000 > "$work/at/big/random.bin"
{ tar cf - -C /usr . 2>/dev/null || true; } | head -c 384M > "$work/at/big/tarball.bin" || true
umount "$work/at"
losetup -d "$loop"
loop=

as() { echo "bench/image.sh: ${!#}"; qemu-img convert -f raw disk.raw -O "$@"; }
as qcow2 disk.qcow2
as qcow2 -c disk-zlib.qcow2
as qcow2 -c -o compression_type=zstd disk-zstd.qcow2
as vmdk disk-sparse.vmdk
as vmdk -o subformat=streamOptimized disk-so.vmdk
as vpc -o subformat=dynamic,force_size=on disk.vhd
as vhdx disk.vhdx
as vdi disk.vdi
sha256sum disk.raw > stamp
