#!/bin/bash
# Makes the samples that `imgmount demo` carries and the tests read: samples/*.xz, one 16 MiB disk in every format.
#
#   tests/make/samples.sh [DIR]        DIR is samples unless given; needs root for owners and attributes
#
# Made with mke2fs 1.47.0, sfdisk 2.38.1, qemu-img 10.0.2, cpio 2.13, zstd 1.5.4, xz 5.4.1; whoever makes them anew should look
# at the difference before committing it: two runs differ in the times of change (ctime) and in random identities. The system on it is a stand-in: right in names, places and structure, none of it
# anybody else's program. Its kernel and its programs start nothing.
set -euo pipefail
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=1735689600 E2FSPROGS_FAKE_TIME=1735689600     # 2025-01-01

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=${1:-$here/samples}
lacks=()
for tool in mke2fs:e2fsprogs sfdisk:fdisk qemu-img:qemu-utils cpio:cpio zstd:zstd xz:xz-utils python3:python3; do
    command -v "${tool%%:*}" >/dev/null || lacks+=("${tool##*:}")
done
[ ${#lacks[@]} = 0 ] || { echo "samples: lacks ${lacks[*]}; get them with: apt-get install -y ${lacks[*]}" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "samples: needs root, for owners and attributes: sudo make samples" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

uuid=5b3e8a7c-91d4-4c26-b0f7-3a6d2e9c8f10
kernel=6.1.0-50-cloud-amd64

put() { mkdir -p "$(dirname "$1")"; cat > "$1"; }
# The smallest program that Linux starts: it returns 0.
elf() {
    mkdir -p "$(dirname "$1")"
    python3 - "$1" <<'P'
import struct, sys
code = b"\xb8\x3c\0\0\0\x31\xff\x0f\x05"                                # mov eax,60; xor edi,edi; syscall
head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120 + len(code), 120 + len(code), 4096)
open(sys.argv[1], "wb").write(head + segment + code)
P
    chmod 755 "$1"
}

# One system in the folder $1; $2 = good, or broken: what a cloud's import refuses.
system() {
    local root=$1 kind=$2 module dir
    mkdir -p "$root"/{boot/grub,dev,etc,home,mnt,proc,root,run,srv,sys,tmp,usr/{bin,sbin,lib},var/{lib/dpkg,log,tmp}}
    for dir in bin sbin lib; do ln -s "usr/$dir" "$root/$dir"; done
    chmod 700 "$root/root"; chmod 1777 "$root/tmp" "$root/var/tmp"

    put "$root/usr/lib/os-release" <<'T'
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
T
    ln -s ../usr/lib/os-release "$root/etc/os-release"
    echo 12.12 > "$root/etc/debian_version"; echo sample > "$root/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 sample\n' > "$root/etc/hosts"
    : > "$root/etc/machine-id"
    printf 'root:x:0:0:root:/root:/bin/bash\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n' > "$root/etc/passwd"
    printf 'root:*:20089:0:99999:7:::\nsshd:!:20089::::::\n' > "$root/etc/shadow"; chmod 640 "$root/etc/shadow"; chown 0:42 "$root/etc/shadow"
    printf 'root:x:0:\nshadow:x:42:\nnogroup:x:65534:\n' > "$root/etc/group"
    printf 'PermitRootLogin prohibit-password\nUsePAM yes\n' | put "$root/etc/ssh/sshd_config"
    printf 'auto lo\niface lo inet loopback\n' | put "$root/etc/network/interfaces"
    printf 'MODULES=most\nCOMPRESS=zstd\n' | put "$root/etc/initramfs-tools/initramfs.conf"
    printf 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\n' | put "$root/etc/default/grub"

    local device="UUID=$uuid"
    [ "$kind" = good ] || device=/dev/sda1
    printf '# <file system> <mount point> <type> <options> <dump> <pass>\n%s / ext4 errors=remount-ro 0 1\n' "$device" > "$root/etc/fstab"
    [ "$kind" = good ] || printf '/dev/sdb1 /data xfs defaults 0 2\n' >> "$root/etc/fstab"

    put "$root/boot/grub/grub.cfg" <<T
set default="0"
set timeout=1
menuentry 'Debian GNU/Linux' --class debian {
	insmod part_msdos
	insmod ext2
	search --no-floppy --fs-uuid --set=root $uuid
	linux	/boot/vmlinuz-$kernel root=${device} ro console=ttyS0,115200
	initrd	/boot/initrd.img-$kernel
}
T
    printf 'CONFIG_64BIT=y\nCONFIG_VIRTIO=m\nCONFIG_VIRTIO_PCI=m\nCONFIG_VIRTIO_BLK=m\nCONFIG_VIRTIO_NET=m\nCONFIG_EXT4_FS=m\n' \
        > "$root/boot/config-$kernel"
    # A boot sector's mark and a setup header's, where Linux "Documentation/arch/x86/boot.rst" has them; nothing behind.
    python3 -c "
head = bytearray(2048); head[0x1f1] = 3; head[0x1fe:0x200] = b'\x55\xaa'; head[0x202:0x206] = b'HdrS'; head[0x206:0x208] = b'\x0f\x02'
open('$root/boot/vmlinuz-$kernel', 'wb').write(bytes(head) + b'a stand-in for a kernel\n')"

    local modules=$root/usr/lib/modules/$kernel
    local drivers=(drivers/virtio/virtio drivers/virtio/virtio_ring drivers/virtio/virtio_pci_modern_dev
        drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci drivers/block/virtio_blk drivers/net/virtio_net
        drivers/ata/ahci fs/ext4/ext4 fs/jbd2/jbd2)
    for module in "${drivers[@]}"; do
        printf 'a stand-in for the module %s\n' "${module##*/}" | put "$modules/kernel/$module.ko"
    done
    put "$modules/modules.dep" <<'T'
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/virtio/virtio_pci_legacy_dev.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_legacy_dev.ko kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/net/virtio_net.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/ata/ahci.ko:
kernel/fs/jbd2/jbd2.ko:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko
T
    printf 'kernel/fs/binfmt_elf.ko\n' > "$modules/modules.builtin"

    # The initramfs as initramfs-tools makes it: first an unpacked archive with microcode's place, then a packed one.
    local early=$work/early.$kind main=$work/main.$kind
    mkdir -p "$early/kernel/x86/microcode" "$main/usr/lib/modules/$kernel"
    echo 'a stand-in for microcode' > "$early/kernel/x86/microcode/GenuineIntel.bin"
    echo '#!/bin/sh' > "$main/init"; chmod 755 "$main/init"
    cp -r "$modules/kernel" "$main/usr/lib/modules/$kernel/"
    [ "$kind" = good ] || rm "$main/usr/lib/modules/$kernel/kernel/drivers/block/virtio_blk.ko"
    find "$early" "$main" -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
    { (cd "$early" && find . | sort | cpio --quiet --reproducible -o -H newc)
      (cd "$main" && find . | sort | cpio --quiet --reproducible -o -H newc | zstd -q -19 -T1); } > "$root/boot/initrd.img-$kernel"
    ln -s "boot/vmlinuz-$kernel" "$root/vmlinuz"; ln -s "boot/initrd.img-$kernel" "$root/initrd.img"

    for module in bin/bash bin/ls bin/passwd lib/systemd/systemd sbin/sshd; do elf "$root/usr/$module"; done
    ln -s bash "$root/usr/bin/sh"; ln -s ../lib/systemd/systemd "$root/usr/sbin/init"; chmod 4755 "$root/usr/bin/passwd"
    local units=$root/usr/lib/systemd/system wants=$root/etc/systemd/system
    printf '[Unit]\nDescription=OpenBSD Secure Shell server\n[Service]\nExecStart=/usr/sbin/sshd -D\n[Install]\nWantedBy=multi-user.target\n' \
        | put "$units/ssh.service"
    mkdir -p "$wants/multi-user.target.wants"; ln -s /lib/systemd/system/ssh.service "$wants/multi-user.target.wants/ssh.service"

    local packages="base-files:12.4+deb12u12 bash:5.2.15-2+b8 coreutils:9.1-1 dpkg:1.21.22 grub-pc:2.06-13+deb12u1
        initramfs-tools:0.142+deb12u3 libc6:2.36-9+deb12u13 linux-image-$kernel:6.1.158-1 openssh-server:1:9.2p1-2+deb12u7
        passwd:1:4.13+dfsg1-1+deb12u1 systemd:252.39-1~deb12u1 udev:252.39-1~deb12u1"
    if [ "$kind" = good ]; then
        packages+=" cloud-init:22.4.2-1+deb12u3"
        printf 'users:\n  - default\ndisable_root: true\npreserve_hostname: false\n' | put "$root/etc/cloud/cloud.cfg"
        printf 'datasource_list: [ NoCloud, ConfigDrive, TencentCloud, None ]\n' | put "$root/etc/cloud/cloud.cfg.d/90_dpkg.cfg"
        printf '__VERSION__ = "22.4.2"\n' | put "$root/usr/lib/python3/dist-packages/cloudinit/version.py"
        mkdir -p "$wants/cloud-init.target.wants"
        for module in cloud-init-local cloud-init cloud-config cloud-final; do
            printf '[Unit]\nDescription=%s\n[Install]\nWantedBy=cloud-init.target\n' "$module" > "$units/$module.service"
            ln -s "/lib/systemd/system/$module.service" "$wants/cloud-init.target.wants/$module.service"
        done
        mkdir -p "$wants/multi-user.target.wants"
        ln -s /lib/systemd/system/cloud-init.target "$wants/multi-user.target.wants/cloud-init.target"
        printf '[Unit]\nDescription=Cloud-init target\n[Install]\nWantedBy=multi-user.target\n' > "$units/cloud-init.target"
    fi
    for module in $packages; do
        printf 'Package: %s\nStatus: install ok installed\nPriority: optional\nSection: admin\nMaintainer: nobody\nArchitecture: amd64\nVersion: %s\nDescription: a stand-in\n\n' \
            "${module%%:*}" "${module#*:}"
    done > "$root/var/lib/dpkg/status"

    # What a reader may get wrong.
    local odd=$root/srv/odd
    mkdir -p "$odd/many"
    printf 'one\n' > "$odd/file"; ln "$odd/file" "$odd/hard link"
    ln -s "$(printf 'x%.0s' {1..59})" "$odd/link-59"          # the longest target that lies inside the inode
    ln -s "$(printf 'x%.0s' {1..60})" "$odd/link-60"          # the first one that does not
    ln -s ../../../../etc/shadow "$odd/above"
    truncate -s 1M "$odd/hole"; printf 'middle' | dd of="$odd/hole" bs=1 seek=500000 conv=notrunc status=none
    printf '%*s' 4097 '' > "$odd/size-4097"                   # one byte more than a block
    printf 'u\n' > "$odd/日本語"; printf 'e\n' > "$odd/$(printf 'esc\033[31m')"; printf 'b\n' > "$odd/$(printf 'latin1-\xe9')"
    (cd "$odd/many" && seq -f 'entry-%03.0f' 1 200 | xargs touch)
    chown 1000:1000 "$odd/size-4097"
    python3 -c "import os; os.setxattr('$odd/file', 'user.imgmount', b'a value')" 2>/dev/null || echo "samples: no user attributes on $work" >&2
    find "$root" -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
    touch -d '2024-02-29 12:34:56.123456789 UTC' "$odd/file"
}

# A disk of 16 MiB with the folder $1 on its only partition, as $2.
disk() {
    truncate -s 16M "$2"
    printf 'label: dos\nlabel-id: 0x5a4d3c2b\nstart=2048, type=83, bootable\n' | sfdisk -q "$2"
    # Where a first stage stands: `int 18h`, "no system here", and the texts by which GRUB's is known.
    python3 -c "
disk = open('$2', 'r+b'); disk.write(b'\xeb\x63\x90'); disk.seek(0x65); disk.write(b'\xcd\x18')
disk.seek(0x180); disk.write(b'GRUB \0Geom\0Hard Disk\0Read\0 Error\r\n\0')"
    mke2fs -q -t ext4 -b 4096 -m 0 -N 1024 -J size=4 -L root -U "$uuid" -E hash_seed="$uuid",offset=$((2048 * 512)) \
        -d "$1" "$2" $(((16384 - 1024) / 4))
}

system "$work/good" good
system "$work/broken" broken
made=$work/made
mkdir "$made"
cd "$made"
disk "$work/good" debian.raw
convert() { qemu-img convert -f raw "${@:2}" debian.raw "$1"; }
convert debian.qcow2 -O qcow2
convert debian-zlib.qcow2 -O qcow2 -c
convert debian-zstd.qcow2 -O qcow2 -c -o compression_type=zstd
convert debian.vmdk -O vmdk
convert debian-stream.vmdk -O vmdk -o subformat=streamOptimized
convert debian-flat.vmdk -O vmdk -o subformat=monolithicFlat            # and debian-flat-flat.vmdk
convert debian-split.vmdk -O vmdk -o subformat=twoGbMaxExtentSparse     # and debian-split-s001.vmdk
convert debian.vhd -O vpc -o subformat=dynamic,force_size=on
convert debian-fixed.vhd -O vpc -o subformat=fixed,force_size=on
convert debian.vhdx -O vhdx -o subformat=dynamic
convert debian.vdi -O vdi
convert debian.qcow -O qcow
convert debian.qed -O qed

# The same disk as a machine's: an envelope with the disk beside it, both in one archive; and an archive without one.
cat > debian.ovf <<T
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="file1" ovf:href="debian-stream.vmdk"/></References>
  <DiskSection>
    <Info>Virtual disks</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="16" ovf:capacityAllocationUnits="byte * 2^20"
      ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <VirtualSystem ovf:id="debian"><Info>A machine</Info><Name>debian</Name></VirtualSystem>
</Envelope>
T
archive() { tar --format=ustar --owner=0 --group=0 --mtime=@$SOURCE_DATE_EPOCH -cf "$@"; }
archive debian.ova debian.ovf debian-stream.vmdk
archive debian.tar debian.raw

# A LUKS container of which all keys were destroyed and salts and digest blanked, so that it packs; for probes.
truncate -s 4M locked.luks
printf key | cryptsetup -q luksFormat --type luks1 --uuid 11111111-2222-3333-4444-555555555555 --key-file - --pbkdf-force-iterations 1000 locked.luks
cryptsetup -q luksErase locked.luks
dd if=/dev/zero of=locked.luks bs=1 seek=112 count=52 conv=notrunc status=none
for slot in 0 1 2 3 4 5 6 7; do dd if=/dev/zero of=locked.luks bs=1 seek=$(( 216 + 48 * slot )) count=32 conv=notrunc status=none; done
dd if=/dev/zero of=locked.luks bs=4096 seek=1 count=511 conv=notrunc status=none

disk "$work/broken" "$work/broken.raw"
qemu-img convert -f raw -O qcow2 -c "$work/broken.raw" broken.qcow2

rm -f "$out"/*.xz
for file in *; do xz -9e --check=crc32 --stdout "$file" > "$out/$file.xz"; done
ls -l "$out" >&2
du -cb "$out"/*.xz | tail -n 1 >&2
