#!/bin/bash
# Lays a guest's tree out in the ways in which installers do, on a disk of its own.
#
#   tests/make/variants.sh xfs|btrfs|lvm OUT [GUEST]
#
# OUT/NAME.raw      the disk: GPT
#     xfs           ESP (vfat), /boot (ext4), root (xfs)
#     btrfs         one btrfs, packed with zstd: @ on /, @home on /home, @snapshots on /.snapshots, a bind mount
#     lvm           /boot (ext4) beside a volume group 'guest-vg': root and var (ext4)
# OUT/NAME.mounts   what to mount where to see what the guest sees: FIRST_BYTE BYTES TYPE OPTIONS PLACE; for a bind mount
#                   the place it is taken from stands first, and '-' for what has no meaning
# OUT/NAME.esp/     the files of the ESP, for hosts whose kernel has no vfat
#
# GUEST is a disk of tests/make/guest.sh, whose Debian is taken over but for what is large and all alike (kernel modules,
# translations, documentation, a file of 5 GiB). Without it, tests/make/tree.py makes some thousands of files.
# What was made once is kept until this script, tree.py or GUEST changes. Needs root and loop devices.
set -euo pipefail
export LC_ALL=C

name=$1 out=$2 guest=${3:-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$out"
exec 9> "$out/$name.lock"; flock 9
stamp="$(cat "${BASH_SOURCE[0]}" "$here/tree.py" | sha256sum) $(stat -c '%i %Y %s' "$guest" 2>/dev/null || true)"
if [ "$(cat "$out/$name.stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
rm -rf "$out/$name".{stamp,raw,mounts,esp}

MIB=$((1 << 20))
work=$(mktemp -d -p "$out")
root=$work/root disk=$work/disk.raw mounts=$work/mounts
loops=()
cleanup() {
    local dir loop
    while read -r dir; do umount "$dir" || umount -l "$dir"; done \
        < <(awk -v at="$work/" 'index($2, at) == 1 { print $2 }' /proc/self/mounts | tac)
    for loop in "${loops[@]}"; do losetup -d "$loop" || true; done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
mkdir "$root"

# Runs a tool that talks about what is in order.
quiet() { "$@" > "$work/said" 2>&1 9>&- || { cat "$work/said" >&2; return 1; }; }
# A stretch of the disk as a device, in $loop.
device() { loop=$(losetup -f --show -o "$1" --sizelimit "$2" "$disk"); loops+=("$loop"); }
# Notes where the kernel finds what the guest mounts, and mounts it for filling.
place() {
    local first=$1 bytes=$2 type=$3 options=$4 at=$5
    printf '%s %s %s %s %s\n' "$first" "$bytes" "$type" "$options" "$at" >> "$mounts"
    mkdir -p "$root$at"
    mount -t "$type" -o "$options" "$6" "$root$at"
}

source=$work/source
mkdir "$source"
leave=(--exclude=./usr/lib/modules/*/kernel --exclude=./usr/share/{doc,locale,i18n,man} --exclude=./usr/lib/{python3.11,grub}
    --exclude=./usr/lib/udev/hwdb* --exclude=./boot/grub/i386-pc --exclude=./srv/odd/hole-5G)
if [ -n "$guest" ]; then
    mount -t ext4 -o ro,loop,offset=$MIB "$guest" "$source"
else
    mkdir -p "$source"/{boot,etc,home,root,srv/tree,tmp,usr/{bin,lib},var/lib/dpkg}
    ln -s usr/bin "$source/bin"; ln -s usr/lib "$source/lib"; ln -s ../usr/lib/os-release "$source/etc/os-release"
    printf 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n' > "$source/usr/lib/os-release"
    printf '#!/bin/true\n' > "$source/usr/bin/sh"; chmod 755 "$source/usr/bin/sh"
    printf 'kernel\n' > "$source/boot/vmlinuz-6.1.0-50-cloud-amd64"
    printf 'Package: base-files\nStatus: install ok installed\nVersion: 12\n' > "$source/var/lib/dpkg/status"
    python3 "$here/tree.py" "$source/srv/tree" 4096
fi
# The longest symbolic link of xfs has 1024 bytes.
[ "$name" != xfs ] || leave+=(--exclude=./srv/{odd/link-2003,tree/links/4000})
pack=(--xattrs --xattrs-include=* --acls --numeric-owner --warning=no-timestamp)
# Copies PATHs of the guest to where the file systems are mounted.
fill() {
    tar -C "$source" --one-file-system --sparse "${pack[@]}" "${leave[@]}" -cf - "$@" | tar -C "$root" "${pack[@]}" -xpf -
}
fstab() { { printf '# <file system> <mount point> <type> <options> <dump> <pass>\n\n'; cat; } > "$root/etc/fstab"; }

boot_uuid=0d8f7a5e-2f7b-4d4f-9c11-5ab1c0ffee01
root_uuid=7c3c1a44-90a5-4ac5-8c41-1f2e3d4c5b6a
part_uuid=c0b1d2e3-0001-4000-8000-00000000000

case $name in
xfs)
    truncate -s 1200M "$disk"
    quiet sgdisk -o -n 1:1M:+64M -t 1:ef00 -u "1:${part_uuid}1" -n 2:0:+128M -u "2:${part_uuid}2" -n 3:0:+900M -u "3:${part_uuid}3" \
        "$disk"
    device $((193 * MIB)) $((900 * MIB)); mkfs.xfs -q -L root -m "uuid=$root_uuid" "$loop"
    place $((193 * MIB)) $((900 * MIB)) xfs noatime / "$loop"
    device $((65 * MIB)) $((128 * MIB)); mkfs.ext4 -q -L boot -U "$boot_uuid" -E lazy_itable_init=0 "$loop"
    place $((65 * MIB)) $((128 * MIB)) ext4 noatime /boot "$loop"
    fill .
    mkdir -p "$root/boot/efi" "$root/data"
    fstab <<FSTAB
UUID=$root_uuid / xfs defaults 0 0
LABEL="boot" /boot ext4 nofail,x-systemd.device-timeout=1 0 2
PARTUUID=${part_uuid^^}1 /boot/efi vfat umask=0077 0 1
UUID=dddddddd-dddd-4ddd-8ddd-dddddddddddd /data xfs defaults,nofail
tmpfs /tmp tmpfs
/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0
FSTAB
    esp=$work/esp
    mkdir -p "$esp/EFI/debian" "$esp/EFI/BOOT"
    head -c 300000 /dev/zero | tr '\0' 'e' > "$esp/EFI/debian/grubx64.efi"
    printf 'search.fs_uuid %s root\n' "$boot_uuid" > "$esp/EFI/debian/grub.cfg"
    printf 'x\n' > "$esp/EFI/BOOT/a longer name than 8 and 3.txt"
    device $MIB $((64 * MIB)); quiet mkfs.vfat -F 32 -n EFI -i 1234ABCD "$loop"
    mcopy -i "$loop" -s -m "$esp/EFI" ::
    mv "$esp" "$out/$name.esp"
    ;;
btrfs)
    truncate -s 1200M "$disk"
    quiet sgdisk -o -n 1:1M:+1M -t 1:ef02 -n 2:0:+1100M -u "2:${part_uuid}2" "$disk"
    at=$((2 * MIB)) bytes=$((1100 * MIB))
    device $at $bytes; quiet mkfs.btrfs -L root -U "$root_uuid" "$loop"
    mkdir "$work/top"; mount -t btrfs -o compress=zstd "$loop" "$work/top"
    for subvolume in @ @home @snapshots; do quiet btrfs subvolume create "$work/top/$subvolume"; done
    place $at $bytes btrfs compress=zstd,noatime,subvol=@ / "$loop"
    fill ./etc ./bin ./usr/lib/os-release
    # A state of the system from before most of it was installed, as snapper keeps it.
    mkdir "$work/top/@snapshots/1"
    printf '<snapshot><num>1</num></snapshot>\n' > "$work/top/@snapshots/1/info.xml"
    quiet btrfs subvolume snapshot -r "$work/top/@" "$work/top/@snapshots/1/snapshot"
    snapshots=$(btrfs subvolume list "$work/top" | awk '$NF == "@snapshots" { print $2 }')
    place $at $bytes btrfs compress=zstd,noatime,subvol=@home /home "$loop"
    place $at $bytes btrfs "compress=zstd,noatime,subvolid=$snapshots" /.snapshots "$loop"
    fill .
    mkdir -p "$root/home/debian/shared" "$root/srv/shared"
    printf 'in the home\n' > "$root/home/debian/shared/file"
    printf '%s - bind - /srv/shared\n' /home/debian/shared >> "$mounts"
    fstab <<FSTAB
UUID=$root_uuid / btrfs compress=zstd,subvol=@ 0 0
LABEL=root /home btrfs rw,subvol=/@home
/dev/disk/by-partuuid/${part_uuid}2 /.snapshots btrfs subvolid=$snapshots 0 0
/home/debian/shared /srv/shared none bind 0 0
FSTAB
    ;;
lvm)
    truncate -s 1200M "$disk"
    quiet sgdisk -o -n 1:1M:+128M -u "1:${part_uuid}1" -n 2:0:+1000M -t 2:8e00 "$disk"
    device $((129 * MIB)) $((1000 * MIB)); pv=$loop
    mkdir "$work/lvm"; export LVM_SYSTEM_DIR=$work/lvm
    config="devices { filter=[\"a|^$pv\$|\", \"r|.*|\"] use_devicesfile=0 obtain_device_list_from_udev=0 }
        activation { udev_sync=0 udev_rules=0 monitoring=0 } global { use_lvmpolld=0 } backup { backup=0 archive=0 }"
    # LVM complains that it finds no device-mapper, which it does not need for this.
    lvm() { local tool=$1; shift; command "$tool" --config "$config" "$@" 9>&- 2>"$work/said" || { cat "$work/said" >&2; return 1; }; }
    lvm pvcreate -q "$pv" > /dev/null
    lvm vgcreate -q guest-vg "$pv" > /dev/null
    lvm lvcreate -q --driverloaded n -an -Zn -Wn -y -n root -L 700M guest-vg > /dev/null
    lvm lvcreate -q --driverloaded n -an -Zn -Wn -y -n var -L 200M guest-vg > /dev/null
    start=$(lvm pvs --noheadings --nosuffix --units b -o pe_start "$pv" | tr -d ' ')
    extent=$(lvm vgs --noheadings --nosuffix --units b -o vg_extent_size guest-vg | tr -d ' ')
    # Both are of one piece.
    first() { lvm pvs --noheadings --segments -o lv_name,pvseg_start "$pv" | awk -v lv="$1" '$1 == lv { print $2; exit }'; }
    at=$((129 * MIB + start + extent * $(first root))) bytes=$((700 * MIB))
    device $at $bytes; mkfs.ext4 -q -E lazy_itable_init=0 "$loop"; place $at $bytes ext4 noatime / "$loop"
    at=$((129 * MIB + start + extent * $(first var))) bytes=$((200 * MIB))
    device $at $bytes; mkfs.ext4 -q -E lazy_itable_init=0 "$loop"; place $at $bytes ext4 noatime /var "$loop"
    device $MIB $((128 * MIB)); mkfs.ext4 -q -U "$boot_uuid" -E lazy_itable_init=0 "$loop"
    place $MIB $((128 * MIB)) ext4 noatime /boot "$loop"
    fill .
    fstab <<FSTAB
/dev/mapper/guest--vg-root / ext4 errors=remount-ro 0 1
/dev/guest-vg/var /var ext4 defaults 0 2
UUID=$boot_uuid /boot ext4 defaults 0 2
/dev/mapper/guest--vg-swap none swap sw 0 0
FSTAB
    ;;
*)
    printf 'no variant %s\n' "$name" >&2
    exit 2
    ;;
esac

sync -f "$root"
grep -v ' bind ' "$mounts" | awk '{ print $5 }' | tac | while read -r at; do umount "$root$at"; done
# A mount name space that was made meanwhile may keep a file system alive, with its log unwritten.
for loop in "${loops[@]}"; do
    losetup -d "$loop"
    for n in $(seq 600); do losetup "$loop" > /dev/null 2>&1 || break; sleep 0.05; done
done
loops=()
mv "$disk" "$out/$name.raw"; mv "$mounts" "$out/$name.mounts"
printf '%s\n' "$stamp" > "$out/$name.stamp"
