#!/bin/bash
# Builds a real Debian 12 on a disk that boots, and the same disk in each format.
#
#   tests/make/guest.sh [DIR]        DIR is target/guest unless given
#
# DIR/disk.raw              3 GiB, MBR, one active ext4 partition from sector 2048, GRUB in the MBR gap
# DIR/disk.qcow2            v3, nothing packed                   DIR/disk.vmdk          monolithicSparse
# DIR/disk-zlib.qcow2       packed with zlib                     DIR/disk-stream.vmdk   streamOptimized
# DIR/disk-zstd.qcow2       packed with zstd                     DIR/disk.vhd           dynamic, size kept exact
#
# The mirror is the one this host's own apt uses, or $IMGMOUNT_MIRROR. What was made once is kept until this script changes
# (or DIR is removed). Needs root, and loop devices; not partition scanning, which containers lack.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=${1:-$here/target/guest}
size=$((3 << 30))
start=2048                                     # sectors; what every partitioner of the last ten years begins with
uuid=6b0d5c2e-7f3a-4d1b-9a58-0c4e2f8b1d37      # of the root file system
disk_id=0x1b2e3d4c                             # of the MBR
sides=(disk.qcow2 disk-zlib.qcow2 disk-zstd.qcow2 disk.vmdk disk-stream.vmdk disk.vhd)

say() { printf 'guest: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

stamp=$(sha256sum < "${BASH_SOURCE[0]}" | cut -d' ' -f1)
fresh() {
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ] || return 1
    local file
    for file in disk.raw "${sides[@]}"; do [ -s "$out/$file" ] || return 1; done
}
if fresh; then say "up to date in $out"; exit 0; fi

# What is lacking, and the one line that gets it.
lacks=()
need() { command -v "$1" >/dev/null || lacks+=("$2"); }
need debootstrap debootstrap; need qemu-img qemu-utils; need mkfs.ext4 e2fsprogs; need sfdisk fdisk; need losetup mount
[ ${#lacks[@]} = 0 ] || die "lacks ${lacks[*]}; get them with: apt-get install -y ${lacks[*]}"
[ "$(id -u)" = 0 ] || die "needs root, for debootstrap and loop devices: sudo make guest"
[ -e /dev/loop-control ] || die "needs loop devices: modprobe loop, or a container started with --privileged"
mirror=${IMGMOUNT_MIRROR:-$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null \
    | awk '$1 == "bookworm" { print $2; exit }')}
[ -n "$mirror" ] || die "this host's apt knows no Debian 12 (bookworm); name a mirror: IMGMOUNT_MIRROR=URL make guest"

mkdir -p "$out"
work=$(mktemp -d -p "$out")
root=$work/root
loop=
cleanup() {
    local dir
    for dir in "$root/proc" "$root/dev" "$root"; do
        mountpoint -q "$dir" && { umount "$dir" || umount -l "$dir"; }
    done
    [ -z "$loop" ] || losetup -d "$loop" || true
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
clock=$SECONDS
lap() { say "$1: $((SECONDS - clock)) s"; clock=$SECONDS; }

# --- the disk ---------------------------------------------------------------------------------------------------------
disk=$work/disk.raw
truncate -s "$size" "$disk"
printf 'label: dos\nlabel-id: %s\nstart=%s, type=83, bootable\n' "$disk_id" "$start" | sfdisk -q "$disk"
loop=$(losetup -f --show -o $((start * 512)) --sizelimit $((size - start * 512)) "$disk")
mkfs.ext4 -q -L root -U "$uuid" -E hash_seed="$uuid",lazy_itable_init=0,nodiscard "$loop"
mkdir "$root"
# Mounted by a relative name that means the same device here and, later, inside: update-grub must find it there, and under
# a name that is not a loop device's, for of those it lists no kernels.
mkdir "$work/dev"
mknod -m 600 "$work/dev/guest" b $((0x$(stat -c %t "$loop"))) $((0x$(stat -c %T "$loop")))
(cd "$work" && mount -c -t ext4 -o noatime,nobarrier dev/guest root)

# --- the system -------------------------------------------------------------------------------------------------------
quiet() { "$@" >>"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; die "failed: $*"; }; }
inside() { quiet chroot "$root" env HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
packages=(linux-image-cloud-amd64 grub-pc cloud-init cloud-guest-utils openssh-server initramfs-tools e2fsprogs
    systemd-sysv zstd dbus iproute2 iputils-ping netbase ifupdown isc-dhcp-client ca-certificates sudo libcap2-bin attr acl)

quiet debootstrap --foreign --variant=minbase --arch=amd64 --include=debian-archive-keyring bookworm "$root" "$mirror"
# It is built once and thrown away when interrupted: no need to wait for the disk after each file.
mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
printf 'force-unsafe-io\n' > "$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
inside /debootstrap/debootstrap --second-stage
lap "base system"

# A /dev of its own: nothing of the host is seen, and the root's device has the links that update-grub asks for.
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/dev/disk/by-uuid"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$node"
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done
cp -a "$work/dev/guest" "$root/dev/guest"
ln -s ../../guest "$root/dev/disk/by-uuid/$uuid"
ln -s /proc/self/fd "$root/dev/fd"
mount -t proc proc "$root/proc"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"      # no service starts while we install
chmod 755 "$root/usr/sbin/policy-rc.d"
printf 'UUID=%s / ext4 errors=remount-ro 0 1\n' "$uuid" > "$root/etc/fstab"
printf 'debian\n' > "$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost ip6-loopback\n' > "$root/etc/hosts"
printf 'nameserver 127.0.0.53\n' > "$work/resolv.conf"
[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$root/etc/resolv.conf"
printf 'grub-pc grub-pc/install_devices_empty boolean true\ngrub-pc grub-pc/install_devices multiselect\n' > "$work/debconf"
cp "$work/debconf" "$root/root/debconf"
inside debconf-set-selections /root/debconf
rm "$root/root/debconf"
if [ -d "$out/debs" ]; then cp -n "$out"/debs/*.deb "$root/var/cache/apt/archives/"; fi
inside apt-get update
inside apt-get install -y --no-install-recommends "${packages[@]}"
mkdir -p "$out/debs"; cp -n "$root"/var/cache/apt/archives/*.deb "$out/debs/" || true
lap "packages"

# --- how it boots -----------------------------------------------------------------------------------------------------
# grub-install wants partition devices, which a loop device has only where the host scans partitions. So its steps by hand:
# the modules, the boot sector, and a core image in the gap before the first partition that finds the root by UUID.
mkdir -p "$root/boot/grub/i386-pc" "$root/boot/grub/fonts"
cp "$root"/usr/lib/grub/i386-pc/*.{mod,lst,img} "$root/boot/grub/i386-pc/"
printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' "$uuid" > "$root/root/early.cfg"
inside grub-mkimage -O i386-pc -p /boot/grub -c /root/early.cfg -o /boot/grub/i386-pc/core.img \
    biosdisk part_msdos ext2 search_fs_uuid
rm "$root/root/early.cfg"
cp "$root/usr/lib/grub/i386-pc/boot.img" "$root/boot/grub/i386-pc/boot.img"
cat > "$root/etc/default/grub" <<'GRUB'
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_TERMINAL="console serial"
GRUB
inside update-grub
# update-grub saw a disk without partitions; on the disk it is the first one.
sed -i "s/^set root='.*'/set root='hd0,msdos1'/; s/^\(\s*\)insmod ext2/\1insmod part_msdos\n&/" "$root/boot/grub/grub.cfg"
grep -q "root=UUID=$uuid" "$root/boot/grub/grub.cfg" || die "grub.cfg does not find its root by UUID"
core=$root/boot/grub/i386-pc/core.img
[ "$(stat -c %s "$core")" -le $(((start - 1) * 512)) ] || die "GRUB's core image does not fit before sector $start"
dd if="$root/boot/grub/i386-pc/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$core" of="$disk" bs=512 seek=1 conv=notrunc status=none
lap "boot loader"

# --- what a cloud expects of it ---------------------------------------------------------------------------------------
inside passwd -l root
inside systemctl enable ssh.service cloud-init-local.service cloud-init.service cloud-config.service cloud-final.service
printf 'auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*\n' > "$root/etc/network/interfaces"
rm -f "$root"/etc/ssh/ssh_host_*                                    # cloud-init makes new ones
: > "$root/etc/machine-id"

# --- what a reader may get wrong --------------------------------------------------------------------------------------
odd=$root/srv/odd
mkdir -p "$odd/deep/a/b/c/d/e/f/g/h" "$odd/many" "$odd/names"
printf 'one\n' > "$odd/file"; ln "$odd/file" "$odd/hard link"; ln "$odd/file" "$odd/deep/a/b/hard"
chmod 4755 "$odd/deep/a"; chmod 1777 "$odd/many"; chmod 000 "$odd/names"
ln -s file "$odd/short"
ln -s "$(printf 'x%.0s' {1..59})" "$odd/link-59"                    # the longest target that lies inside the inode
ln -s "$(printf 'x%.0s' {1..60})" "$odd/link-60"                    # the first one that does not
ln -s "$(printf 'd/%.0s' {1..1000})end" "$odd/link-2003"
ln -s ../../../../../../etc/shadow "$odd/above"; ln -s /etc/os-release "$odd/absolute"
truncate -s 5G "$odd/hole-5G"
printf 'middle' | dd of="$odd/hole-5G" bs=1 seek=$((3 << 30)) conv=notrunc status=none
printf 'end' | dd of="$odd/hole-5G" bs=1 seek=$(((5 << 30) - 3)) conv=notrunc status=none
truncate -s 0 "$odd/empty"; printf '%*s' 4095 '' > "$odd/size-4095"; printf '%*s' 4097 '' > "$odd/size-4097"
fallocate -l 1M "$odd/preallocated"; printf 'x' | dd of="$odd/preallocated" bs=1 seek=500000 conv=notrunc status=none
head -c $((600 * 4096)) /dev/zero | tr '\0' 'f' > "$odd/fragmented"
for ((block = 1; block < 600; block += 2)); do fallocate -p -o $((block * 4096)) -l 4096 "$odd/fragmented"; done   # 300 extents
(cd "$odd/many" && seq -f 'entry-%04.0f-with-a-name-that-fills-directory-blocks' 1 3000 | xargs touch)             # an indexed directory
printf 'n\n' > "$odd/names/$(printf 'new\nline')"; printf 'l\n' > "$odd/names/$(printf 'latin1-\xe9')"
printf 'u\n' > "$odd/names/日本語"; printf 'e\n' > "$odd/names/$(printf 'esc\033[31m')"; printf 'm\n' > "$odd/names/$(printf 'n%.0s' {1..255})"
mkfifo "$odd/fifo"; mknod "$odd/char" c 300 70000; mknod "$odd/block" b 8 1
chown 70000:4000000000 "$odd/size-4095"
touch -d '1901-12-14 00:00:00.000000001 UTC' "$odd/time-1901"; touch -d '2038-01-19 03:14:08.123456789 UTC' "$odd/time-2038"
touch -d '2400-02-29 12:00:00.999999999 UTC' "$odd/time-2400"
inside setcap cap_net_raw+ep /srv/odd/size-4097
inside setfattr -n user.imgmount -v "a value" /srv/odd/file
inside setfattr -n user.long -v "$(printf 'v%.0s' {1..3000})" /srv/odd/file      # in a block of its own
inside setfattr -n trusted.note -v 0x00ff00 /srv/odd/deep
inside setfacl -m u:1000:rx,g:50:r /srv/odd/deep/a
inside setfacl -d -m u:1000:rwx /srv/odd/deep
lap "odd files"

# --- leave it clean ---------------------------------------------------------------------------------------------------
inside apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/{bootstrap.log,dpkg.log,apt/*,alternatives.log} "$root/usr/sbin/policy-rc.d" \
    "$root/etc/dpkg/dpkg.cfg.d/unsafe-io" "$root"/var/cache/debconf/*-old
cp "$work/resolv.conf" "$root/etc/resolv.conf"
umount "$root/proc" "$root/dev" "$root"
e2fsck -fn "$loop" >>"$work/log" 2>&1 || { tail "$work/log" >&2; die "e2fsck is not content"; }
losetup -d "$loop"; loop=
fallocate -d "$disk"
lap "clean"

# --- the same disk in other formats -----------------------------------------------------------------------------------
convert() { qemu-img convert -f raw "${@:2}" "$disk" "$work/$1"; }
convert disk-stream.vmdk -O vmdk -o subformat=streamOptimized &      # one thread for most of the time, whence beside the others
stream=$!
convert disk-zlib.qcow2 -O qcow2 -c
convert disk-zstd.qcow2 -O qcow2 -c -o compression_type=zstd
convert disk.qcow2 -O qcow2
convert disk.vmdk -O vmdk
convert disk.vhd -O vpc -o subformat=dynamic,force_size=on
wait "$stream"
lap "formats"

for file in disk.raw "${sides[@]}"; do mv "$work/$file" "$out/$file"; done
printf '%s\n' "$stamp" > "$out/stamp"
say "made in $SECONDS s"
(cd "$out" && ls -lsh disk* >&2)
