#!/bin/bash
# Makes one variant of the real Debian guest: a disk that boots, or one with a single thing broken.
#
#   tests/truth/variant.sh NAME GUEST OUT       OUT becomes the disk; GUEST is a disk.raw of tests/make/guest.sh
#   tests/truth/variant.sh --list               NAME <tab> boots|fails <tab> what was done, one a line
#
# Needs root and loop devices. What takes long (a tree with LVM inside) is kept beside OUT in a folder 'kept'.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

list() {
    cat <<'LIST'
ext4	boots	as it was made: one ext4, GRUB in the gap before it
xfs	boots	root and /boot on one xfs
btrfs	boots	root and /boot in the subvolume @ of one btrfs
lvm	boots	/boot on ext4, root on a logical volume
core-at-end	boots	GRUB's core image behind the last partition
fstab-absent-nofail	boots	fstab names a disk that is not there, with nofail
no-virtio-blk	fails	virtio_blk.ko taken out of the initramfs
wrong-root	fails	root= in grub.cfg names a UUID that is not there
initrd-missing	fails	the initramfs that grub.cfg names is deleted
initrd-empty	fails	the initramfs has 0 bytes
initrd-truncated	fails	the initramfs ends in its middle
kernel-missing	fails	the kernel that grub.cfg names is deleted
boot-code-zeroed	fails	the first 440 bytes of the disk are zeros
core-cut-off	fails	GRUB's core image lay behind the end of a disk that was truncated
gpt-no-bios-boot	fails	the MBR converted to a GPT, which overwrote GRUB's core image
esp-only	fails	GPT with an EFI system partition and no boot code for a BIOS
fstab-absent	fails	fstab names a disk that is not there, without nofail
root-on-absent-disk	fails	the root's volume group has a second disk, which is not there
shadow-immutable	fails	/etc/shadow cannot be changed (chattr +i): no password can be set
root-locked	fails	no password, no key, cloud-init disabled
LIST
}
[ "${1:-}" != --list ] || { list; exit 0; }

name=$1 guest=$2 out=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MIB=$((1 << 20))
work=$(mktemp -d -p "$(dirname "$out")")
kept=$(dirname "$out")/kept
root=$work/root
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
quiet() { "$@" > "$work/said" 2>&1 || { cat "$work/said" >&2; return 1; }; }
# A stretch of a file as a device, in $loop.
device() { loop=$(losetup -f --show -o "$2" --sizelimit "$3" "$1"); loops+=("$loop"); }
# The base disk as a copy whose root is mounted.
copy() { cp --sparse=always "$guest" "$out"; }
open() { mount -t ext4 -o loop,nobarrier,offset=$MIB "$out" "$root"; }
close() { umount "$root"; }
grub_dir() { printf '%s\n' "$root/usr/lib/grub/i386-pc"; }
# GRUB in the first sectors of a disk: core FILE PREFIX UUID MODULE...
core() {
    local file=$1 prefix=$2 uuid=$3
    shift 3
    printf 'search.fs_uuid %s root\nset prefix=($root)%s\n' "$uuid" "$prefix" > "$work/early.cfg"
    grub-mkimage -d "$(grub_dir)" -O i386-pc -p "$prefix" -c "$work/early.cfg" -o "$work/core.img" biosdisk part_msdos search_fs_uuid "$@"
    dd if="$(grub_dir)/boot.img" of="$file" bs=440 count=1 conv=notrunc status=none
    dd if="$work/core.img" of="$file" bs=512 seek=1 conv=notrunc status=none
}
# An 8-byte little-endian number into a file.
poke() { python3 -c 'import struct,sys; f=open(sys.argv[1],"r+b"); f.seek(int(sys.argv[2])); f.write(struct.pack("<Q",int(sys.argv[3])))' "$@"; }
pack=(--xattrs --xattrs-include=* --acls --numeric-owner --warning=no-timestamp)
# Everything of the guest but what another file system cannot hold, into $root.
fill() {
    mkdir "$work/source"
    mount -t ext4 -o ro,loop,offset=$MIB "$guest" "$work/source"
    tar -C "$work/source" --one-file-system "${pack[@]}" --exclude=./srv/odd --exclude=./usr/share/doc --exclude=./usr/share/locale \
        -cf - . | tar -C "$root" "${pack[@]}" -xpf -
    umount "$work/source"
}
# The UUID of the guest's root by another one in what the boot reads.
rename_root() {
    sed -i "s/$old/$1/g" "$root/boot/grub/grub.cfg" "$root/etc/fstab"
}
old=$(blkid -p -O $MIB -s UUID -o value "$guest")
kernel() { basename "$(ls -d "$root"/lib/modules/*/ | head -n1)"; }
new=5a1d3c7e-0b2f-4e6d-8a9b-7c6d5e4f3a21

case $name in
ext4) copy ;;
xfs)
    truncate -s 3G "$out"
    printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$out"
    device "$out" $MIB $(((3 << 30) - MIB)); mkfs.xfs -q -m "uuid=$new" "$loop"; mount -t xfs "$loop" "$root"
    fill; rename_root $new
    sed -i 's/^UUID=.*/UUID='$new' \/ xfs defaults 0 0/' "$root/etc/fstab"
    sed -i 's/insmod ext2/insmod xfs/' "$root/boot/grub/grub.cfg"
    core "$out" /boot/grub $new xfs
    close
    ;;
btrfs)
    truncate -s 3G "$out"
    printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$out"
    device "$out" $MIB $(((3 << 30) - MIB)); quiet mkfs.btrfs -U "$new" "$loop"
    mkdir "$work/top"; mount -t btrfs "$loop" "$work/top"; quiet btrfs subvolume create "$work/top/@"; umount "$work/top"
    mount -t btrfs -o compress=zstd,subvol=@ "$loop" "$root"
    fill; rename_root $new
    sed -i 's/^UUID=.*/UUID='$new' \/ btrfs defaults,subvol=@ 0 0/' "$root/etc/fstab"
    sed -i "s/insmod ext2/insmod btrfs/; s#/boot/#/@/boot/#g; s#root=UUID=$new ro#root=UUID=$new ro rootflags=subvol=@#" "$root/boot/grub/grub.cfg"
    core "$out" /@/boot/grub $new btrfs zstd
    close
    ;;
lvm | root-on-absent-disk)
    mkdir -p "$kept" "$work/lvm"; export LVM_SYSTEM_DIR=$work/lvm
    config="activation { udev_sync=0 udev_rules=0 monitoring=0 } global { use_lvmpolld=0 } backup { backup=0 archive=0 }"
    lvm() {
        local tool=$1; shift
        command "$tool" --config "devices { filter=[\"a|^/dev/loop|\", \"r|.*|\"] use_devicesfile=0 obtain_device_list_from_udev=0 } $config" \
            "$@" 2>"$work/said" || { cat "$work/said" >&2; return 1; }
    }
    boot_bytes=$((200 * MIB)) pv_bytes=$((2800 * MIB))
    disk=$kept/lvm.raw
    if [ ! -e "$disk" ]; then
        disk=$work/lvm.raw
        truncate -s $((MIB + boot_bytes + pv_bytes)) "$disk"
        printf 'label: dos\nstart=2048, size=%s, type=83, bootable\nstart=%s, type=8e\n' $((boot_bytes / 512)) $(((MIB + boot_bytes) / 512)) \
            | sfdisk -q "$disk"
        device "$disk" $((MIB + boot_bytes)) $pv_bytes; pv=$loop
        lvm pvcreate -q "$pv" > /dev/null
        lvm vgcreate -q truth "$pv" > /dev/null
        lvm lvcreate -q --driverloaded n -an -Zn -Wn -y -n root -L 2600M truth > /dev/null
        start=$(lvm pvs --noheadings --nosuffix --units b -o pe_start "$pv" | tr -d ' ')
        device "$disk" $((MIB + boot_bytes + start)) $((2600 * MIB)); mkfs.ext4 -q "$loop"; mount -t ext4 -o nobarrier "$loop" "$root"
        device "$disk" $MIB $boot_bytes; mkfs.ext4 -q -U $new "$loop"; mkdir "$root/boot"; mount -t ext4 -o nobarrier "$loop" "$root/boot"
        fill
        printf '/dev/mapper/truth-root / ext4 errors=remount-ro 0 1\nUUID=%s /boot ext4 defaults 0 2\n' $new > "$root/etc/fstab"
        # LVM inside, and an initramfs that starts it.
        cp -L /etc/resolv.conf "$work/resolv"; cp "$root/etc/resolv.conf" "$work/own"; cp "$work/resolv" "$root/etc/resolv.conf"
        mount -t proc proc "$root/proc"; mount --bind /dev "$root/dev"
        quiet chroot "$root" apt-get update
        quiet chroot "$root" apt-get install -y --no-install-recommends lvm2
        quiet chroot "$root" update-initramfs -u -k all
        umount "$root/dev" "$root/proc"
        cp "$work/own" "$root/etc/resolv.conf"; rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb
        version=$(kernel)
        cat > "$root/boot/grub/grub.cfg" <<CFG
set default="0"
set timeout=1
serial --unit=0 --speed=115200
terminal_output console serial
insmod part_msdos
insmod ext2
search --no-floppy --fs-uuid --set=root $new
menuentry 'Debian GNU/Linux' --class debian {
	linux	/vmlinuz-$version root=/dev/mapper/truth-root ro console=tty0 console=ttyS0,115200
	initrd	/initrd.img-$version
}
CFG
        core "$disk" /grub $new ext2
        umount "$root/boot" "$root"
        for loop in "${loops[@]}"; do losetup -d "$loop"; done; loops=()
        mv "$disk" "$kept/lvm.raw"
    fi
    cp --sparse=always "$kept/lvm.raw" "$out"
    if [ "$name" = root-on-absent-disk ]; then
        truncate -s 300M "$work/second.raw"
        device "$work/second.raw" 0 $((300 * MIB)); second=$loop
        device "$out" $((MIB + boot_bytes)) $pv_bytes
        lvm pvcreate -q "$second" > /dev/null
        lvm vgextend -q truth "$second" > /dev/null
        lvm lvextend -q --driverloaded n -y -L +200M truth/root "$second" > /dev/null
    fi
    ;;
core-at-end | core-cut-off)
    copy
    end=$(($(stat -c %s "$out") / 512))
    open; cp "$root/boot/grub/i386-pc/core.img" "$work/core.img"; close
    truncate -s +2M "$out"
    dd if="$work/core.img" of="$out" bs=512 seek=$end conv=notrunc status=none
    dd if=/dev/zero of="$out" bs=512 seek=1 count=2047 conv=notrunc status=none
    poke "$out" $((0x5c)) $end                               # where boot.img reads the core image's first sector
    poke "$out" $((end * 512 + 500)) $((end + 1))            # where that sector reads the rest
    [ "$name" = core-at-end ] || truncate -s $((end * 512)) "$out"
    ;;
no-virtio-blk)
    copy; open
    initrd=$(ls "$root"/boot/initrd.img-*)
    mkdir "$work/tree"
    unmkinitramfs "$initrd" "$work/tree"
    tree=$work/tree; [ ! -d "$tree/main" ] || tree=$tree/main
    find "$tree" -name 'virtio_blk.ko*' -delete
    (cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -1) > "$initrd"
    close
    ;;
wrong-root) copy; open; sed -i "s/root=UUID=$old/root=UUID=$new/" "$root/boot/grub/grub.cfg"; close ;;
initrd-missing) copy; open; rm "$root"/boot/initrd.img-*; close ;;
initrd-empty) copy; open; truncate -s 0 "$root"/boot/initrd.img-*; close ;;
initrd-truncated) copy; open; initrd=$(ls "$root"/boot/initrd.img-*); truncate -s $(($(stat -c %s "$initrd") / 2)) "$initrd"; close ;;
kernel-missing) copy; open; rm "$root"/boot/vmlinuz-*; close ;;
boot-code-zeroed) copy; dd if=/dev/zero of="$out" bs=440 count=1 conv=notrunc status=none ;;
gpt-no-bios-boot) copy; truncate -s +1M "$out"; quiet sgdisk -g "$out" ;;
esp-only)
    copy; open
    truncate -s $((3200 * MIB)) "$out.new"
    quiet sgdisk -o -n 1:1M:+64M -t 1:ef00 -n 2:0:+$(($(stat -c %s "$out") / MIB - 1))M "$out.new"
    printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' "$old" > "$work/early.cfg"
    grub-mkimage -O x86_64-efi -p /boot/grub -c "$work/early.cfg" -o "$work/BOOTX64.EFI" part_gpt ext2 search_fs_uuid normal linux
    close
    device "$out.new" $MIB $((64 * MIB)); quiet mkfs.vfat -F 32 -n EFI "$loop"
    mmd -i "$loop" ::/EFI ::/EFI/BOOT; mcopy -i "$loop" "$work/BOOTX64.EFI" ::/EFI/BOOT/
    dd if="$out" of="$out.new" bs=1M skip=1 seek=65 conv=notrunc,sparse status=none
    mv "$out.new" "$out"
    ;;
fstab-absent) copy; open; mkdir "$root/data"; echo "UUID=$new /data ext4 defaults 0 2" >> "$root/etc/fstab"; close ;;
fstab-absent-nofail)
    copy; open; mkdir "$root/data"; echo "UUID=$new /data ext4 defaults,nofail,x-systemd.device-timeout=5s 0 2" >> "$root/etc/fstab"; close ;;
shadow-immutable) copy; open; chattr +i "$root/etc/shadow"; close ;;
root-locked) copy; open; touch "$root/etc/cloud/cloud-init.disabled"; close ;;
*) printf 'no variant %s; see --list\n' "$name" >&2; exit 2 ;;
esac
