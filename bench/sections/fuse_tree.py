"""The 65,000 paths of the disk as files over FUSE, beside the kernel's own reader on a loop device."""

import subprocess
import tempfile

from bench.measure import spent, warm
from bench.peers import Absent, fuse_mount, kernel_mount, need
from bench.settings import BINARY, PARTITION, PATIENCE, RUNS, disk
from bench.table import Table

STEPS = {
    "find": "find . -xdev",
    "find -printf %s": "find . -xdev -printf %s",
    "tar": "tar cf - usr/share usr/lib | cat",
    "one big file": "dd if=big/random.bin of=/dev/null bs=1M",
}
KERNEL = "kernel on loop"


def steps(table, who, where):
    """One after the other in one mount, as a user would take them."""
    for step, line in STEPS.items():
        try:
            table.add(step, who, spent(["sh", "-c", line], PATIENCE, cwd=where)[0])
        except subprocess.TimeoutExpired:
            table.note(step, who, f"> {PATIENCE} s: stopped")


def fuse2fs(table, where):
    """Once: it looks up each path from the root, and takes minutes where the others take a second."""
    who = "fuse2fs (once)"
    try:
        need("fuse2fs")
        argv = ["fuse2fs", "-o", f"ro,fakeroot,offset={PARTITION}", disk("disk.raw"), where]
        with fuse_mount(argv, where, "etc/fstab"):
            steps(table, who, where)
    except Absent as why:
        for step in STEPS:
            table.note(step, who, str(why))


def run():
    table = Table("FUSE, the tree of 65,000 paths", ["imgmount", KERNEL, "fuse2fs (once)"], "s")
    warm(disk("disk.raw"))
    with tempfile.TemporaryDirectory() as where:
        for turn in range(RUNS):
            for who in ["imgmount", KERNEL] if turn % 2 else [KERNEL, "imgmount"]:
                if who == KERNEL:
                    with kernel_mount(disk("disk.raw"), where, PARTITION):
                        steps(table, who, where)
                else:
                    with fuse_mount([BINARY, "-q", disk("disk.raw"), where], where, "etc/fstab"):
                        steps(table, who, where)
        fuse2fs(table, where)
    for step, must, aim in (("find", 3, 1.5), ("find -printf %s", 3, 1.5), ("tar", 2, 1.2), ("one big file", 2, 1.2)):
        table.must(f"FUSE tree, {step}", step, KERNEL, must)
        table.aim(f"FUSE tree, {step}", step, KERNEL, aim)
    table.show()
