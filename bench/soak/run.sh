#!/bin/bash
# Sixteen mixed readers over NBD and FUSE, every byte compared with the raw disk: bench/soak/run.sh BINARY [SECONDS] [calm]
#
# Exits with 1 on one wrong byte, one failed read, or memory or descriptors that grow. `calm` leaves out the broken connections and
# the readers that are killed. IMGMOUNT_BENCH and IMGMOUNT_TRIXIE as for bench/run.sh. Needs root, for the kernel's mount that says
# what the files hold.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
BENCH_BINARY=$(realpath "$1"); shift
BENCH_DISKS=$(realpath -m "${IMGMOUNT_BENCH:-target/bench}")
BENCH_TRIXIE=$(realpath -m "${IMGMOUNT_TRIXIE:-target/trixie}")
[ -d "$BENCH_TRIXIE/usr" ] || BENCH_TRIXIE=$BENCH_TRIXIE/root
command -v qemu-img >/dev/null || { echo "soak: lacks qemu-utils; get it with: apt-get install -y qemu-utils" >&2; exit 1; }
[ -s "$BENCH_DISKS/disk-so.vmdk" ] || { echo "soak: no disks in $BENCH_DISKS; make them with: sudo make bench-disk" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "soak: needs root: sudo make soak" >&2; exit 1; }
# libnbd's module belongs to the distribution's own python.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
export BENCH_BINARY BENCH_DISKS BENCH_TRIXIE BENCH_GUEST= PYTHONDONTWRITEBYTECODE=1
exec "$python" -m bench.soak "$@"
