"""One small file of the guest: from the start of the process to its last byte."""

from bench.measure import spent, warm
from bench.settings import BINARY, PARTITION, RUNS, guest
from bench.table import Table

FORMATS = ["disk.raw", "disk.qcow2", "disk-zlib.qcow2", "disk-zstd.qcow2", "disk.vmdk", "disk-stream.vmdk", "disk.vhd"]


def run():
    """From the start of the process to the end of one small file of the guest."""
    warm(*map(guest, FORMATS))
    table = Table("One file: from process start to its last byte (/etc/fstab)", ["imgmount cat", "debugfs on raw"], "ms")
    for _ in range(RUNS * 3):
        for name in FORMATS:
            wall, _ = spent([BINARY, "cat", guest(name) + ":/etc/fstab"])
            table.add(name, "imgmount cat", wall * 1000)
            if name == "disk.raw":
                where = f"{guest(name)}?offset={PARTITION}"
                wall, _ = spent(["debugfs", "-R", "cat /etc/fstab", where])
                table.add(name, "debugfs on raw", wall * 1000)
    table.show()
