#!/bin/bash
# Our figures beside those of others, taken in turn in one run: bench/run.sh BINARY [first-byte|library|nbd|remote|files|tree|tree=ntfs|check ...]
# Needs root (kernel mounts to compare with) and the guest of `make guest`. Figures of a busy machine mean little: the ratios
# of CPU seconds bear it best, wall times worst.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
binary=$(realpath "$1"); shift
guest=${IMGMOUNT_GUEST:-target/guest}

lacks=()
need() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || lacks+=("$2"); }
need qemu-nbd qemu-utils; need nbdcopy libnbd-bin; need debugfs e2fsprogs; need python3 python3; need losetup mount
need curl curl; need lsinitramfs initramfs-tools-core
[ ${#lacks[@]} = 0 ] || { echo "bench: lacks ${lacks[*]}; get them with: apt-get install -y ${lacks[*]}" >&2; exit 1; }
[ -s "$guest/stamp" ] || { echo "bench: no guest to read; make it with: sudo make guest" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "bench: needs root, for the kernel's own mounts: sudo make bench" >&2; exit 1; }

echo "$(uname -sr), $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg); $("$binary" --version); $(qemu-nbd --version | head -n1)"
# The program that reads at the library's own level.
READ=$(${CARGO:-cargo} build --profile dist --locked --bench read --message-format=json | sed -n 's/.*"executable":"\([^"]*read-[^"]*\)".*/\1/p')
export READ
exec python3 bench/bench.py "$binary" "$guest" "$@"
