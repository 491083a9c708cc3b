#!/bin/bash
# What an import check needs of a Debian guest, got out with debugfs and sfdisk as the clouds' manuals tell people to look
# by hand: by_hand.sh DISK.RAW FIRST_BYTE. It collects and judges nothing.
set -euo pipefail
disk=$1 at=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sfdisk -J "$disk" > "$work/table"
head -c 512 "$disk" > "$work/boot-code"
# One process a question costs most; so all in one.
cat > "$work/questions" <<'QUESTIONS'
stats -h
dump /usr/lib/os-release os-release
dump /etc/fstab fstab
dump /boot/grub/grub.cfg grub.cfg
dump /var/lib/dpkg/status status
dump /etc/shadow shadow
stat /etc/shadow
dump /etc/passwd passwd
dump /etc/ssh/sshd_config sshd_config
dump /etc/network/interfaces interfaces
dump /etc/cloud/cloud.cfg cloud.cfg
ls -l /etc/cloud/cloud.cfg.d
ls -l /etc/systemd/system
ls -l /etc/systemd/system/multi-user.target.wants
ls -l /etc/systemd/system/cloud-init.target.wants
ls -l /etc/udev/rules.d
ls -l /boot
ls -l /lib/modules
QUESTIONS
(cd "$work" && debugfs -f questions "$disk?offset=$at" > said 2>&1)
kernel=$(sed -n 's/^.* vmlinuz-\([^ ]*\).*/\1/p' "$work/said" | head -n1)
cat > "$work/questions" <<QUESTIONS
dump /boot/initrd.img-$kernel initrd
dump /boot/config-$kernel config
dump /lib/modules/$kernel/modules.dep modules.dep
dump /lib/modules/$kernel/modules.builtin modules.builtin
QUESTIONS
(cd "$work" && debugfs -f questions "$disk?offset=$at" > said 2>&1)
lsinitramfs "$work/initrd" | grep virtio > "$work/virtio"
grep -A1 '^Package: cloud-init$' "$work/status" > "$work/cloud-init"
