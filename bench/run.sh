#!/bin/bash
# Our figures beside those of others, taken in turn in one run: bench/run.sh BINARY [SECTION ...]
#
# Sections: first-byte library nbd remote files check (the guest of `make guest`), tree or tree=ntfs (made here), and
# nbd-sequential nbd-random fuse-disk fuse-tree start memory, or in one word `serving` (the disk of bench/image.sh);
# with some of the rows alone: nbd-random=raw,vhdx.
# RUNS=5 pairs a figure; PATIENCE=120 seconds for a peer's step; IMGMOUNT_GUEST, IMGMOUNT_BENCH, IMGMOUNT_TRIXIE: where the guest,
# the disks and a Debian 13 root (for nbdkit's qcow2dec) lie.
# Needs root, for kernel mounts to compare with. Figures of a busy machine mean little: the ratios of CPU seconds bear it best,
# wall times worst.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
BENCH_BINARY=$(realpath "$1"); shift
BENCH_GUEST=$(realpath -m "${IMGMOUNT_GUEST:-target/guest}")
BENCH_DISKS=$(realpath -m "${IMGMOUNT_BENCH:-target/bench}")
BENCH_TRIXIE=$(realpath -m "${IMGMOUNT_TRIXIE:-target/trixie}")
[ -d "$BENCH_TRIXIE/usr" ] || BENCH_TRIXIE=$BENCH_TRIXIE/root

# What no section can do without; a peer that is absent is said in the tables.
lacks=()
need() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || lacks+=("$2"); }
need qemu-nbd qemu-utils; need nbdcopy libnbd-bin; need debugfs e2fsprogs; need python3 python3; need losetup mount
need curl curl; need lsinitramfs initramfs-tools-core
[ ${#lacks[@]} = 0 ] || { echo "bench: lacks ${lacks[*]}; get them with: apt-get install -y ${lacks[*]}" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "bench: needs root, for the kernel's own mounts: sudo make bench" >&2; exit 1; }

echo "$(uname -sr), $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg); $("$BENCH_BINARY" --version); $(qemu-nbd --version | head -n1)"
! command -v nbdkit >/dev/null || nbdkit --version
# The program that reads at the library's own level.
case " ${*:-library} " in *" library "* | *" remote "*)
    BENCH_READ=$(${CARGO:-cargo} build --profile dist --locked --bench read --message-format=json | sed -n 's/.*"executable":"\([^"]*read-[^"]*\)".*/\1/p')
    export BENCH_READ ;;
esac
export BENCH_BINARY BENCH_GUEST BENCH_DISKS BENCH_TRIXIE PYTHONDONTWRITEBYTECODE=1
exec python3 -m bench "$@"
