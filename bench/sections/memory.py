"""Anonymous memory of all our processes at its highest under load, without what the block cache was allowed.

Only what is unpacked goes through the cache; where nothing is packed, nothing is taken off.
"""

import os
import tempfile

from bench.measure import Peak, spent, warm
from bench.peers import fuse_mount, nbd_server, written_pid
from bench.settings import BINARY, PATIENCE, disk
from bench.table import Table, chosen

# Row, image, whether its data are packed.
CASES = [
    ("raw", "disk.raw", False),
    ("qcow2", "disk.qcow2", False),
    ("qcow2 zlib", "disk-zlib.qcow2", True),
    ("qcow2 zstd", "disk-zstd.qcow2", True),
    ("vmdk sparse", "disk-sparse.vmdk", False),
    ("vmdk streamOptimized", "disk-so.vmdk", True),
    ("vhdx", "disk.vhdx", False),
    ("vhd", "disk.vhd", False),
    ("vdi", "disk.vdi", False),
]
CACHE = 64


def run(*rows):
    doors = ["NBD: nbdcopy", "FUSE: disk.raw", "FUSE: the files"]
    table = Table(f"Anonymous memory at its highest beside a cache of {CACHE} MiB", doors, "MiB", ratio=False)
    with tempfile.TemporaryDirectory() as place:
        sock, where, pid_file = (os.path.join(place, name) for name in ("sock", "at", "pid"))
        os.mkdir(where)
        for row, name, packed in chosen(CASES, rows):
            warm(disk(name))
            budget = CACHE if packed else 0
            cache = ["--cache", f"{CACHE}M"]
            with nbd_server([BINARY, "-q", "serve", disk(name), "-k", sock, *cache], sock) as pid, Peak(pid) as peak:
                spent(["nbdcopy", f"nbd+unix:///?socket={sock}", "null:"], PATIENCE)
            table.add(row, doors[0], peak.mib - budget)
            mount = [BINARY, "-q", disk(name), where, "--pid-file", pid_file, *cache]
            for door, line in ((doors[1], "dd if=.imgmount/disk.raw of=/dev/null bs=1M count=2048"), (doors[2], "find . -xdev | wc -l; cat big/*.bin | wc -c")):
                with fuse_mount(mount, where, "etc/fstab"):
                    pid = written_pid(pid_file)
                    # The next mount writes its own; the one that ends may take its away late, or early.
                    os.unlink(pid_file)
                    with Peak(pid) as peak:
                        spent(["sh", "-c", line], PATIENCE, cwd=where)
                table.add(row, door, peak.mib - budget)
    for row, _, _ in CASES:
        for door in doors:
            table.limit("must", f"memory beside the cache, {row}, {door}", row, 16, door)
    table.show()
