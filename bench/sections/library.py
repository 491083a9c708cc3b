"""Reads at the library's own level, beside qemu-img bench."""

import os
import subprocess
import tempfile

from bench.measure import spent
from bench.settings import GUEST, READ, RUNS, guest
from bench.table import Table


def dense(where):
    """A disk of half a GiB, mostly full: MiBs of the guest that hold something, bytes that do not pack, and zeros."""
    size, path = 0, os.path.join(where, "dense.raw")
    with open(guest("disk.raw"), "rb") as disk, open(path, "wb") as out:
        while size < 384 << 20 and (part := disk.read(1 << 20)):
            if part.count(0) < len(part) * 0.9:
                size += out.write(part)
        for _ in range(64):
            size += out.write(os.urandom(1 << 20))
        out.truncate(size + (64 << 20))
    return path


def run():
    """Reads at the library's own level beside qemu-img bench, warm: in a row, and 4 KiB here and there."""
    rows = {"plain": [], "zlib": ["-c"], "zstd": ["-c", "-o", "compression_type=zstd"]}
    speed = Table("QCOW2, in a row, pieces of 1 MiB", ["imgmount", "qemu-img bench", "the same, depth 8"], "MiB/s")
    processor = Table("QCOW2, in a row: CPU", ["imgmount", "qemu-img bench", "the same, depth 8"], "s/GiB")
    random = Table("QCOW2 of 128 MiB, 4 KiB here and there", ["imgmount", "qemu-img bench"], "operations/ms")
    with tempfile.TemporaryDirectory(dir=GUEST) as where:
        raw = dense(where)
        mib = os.path.getsize(raw) >> 20
        small = os.path.join(where, "small.raw")
        subprocess.run(["dd", f"if={raw}", f"of={small}", "bs=1M", "count=128", "status=none"], check=True)
        for kind, options in rows.items():
            for disk in (raw, small):
                subprocess.run(["qemu-img", "convert", "-O", "qcow2", *options, disk, f"{disk}.{kind}"], check=True)
                subprocess.run(["cat", f"{disk}.{kind}"], check=True, stdout=subprocess.DEVNULL)
        for _ in range(RUNS):
            for kind in rows:
                name = f"{raw}.{kind}"
                ours = subprocess.check_output([READ, name, "seq", "60"], text=True).split()
                done, _, wall, used = map(float, ours)
                speed.add(kind, "imgmount", done / (1 << 20) / wall)
                processor.add(kind, "imgmount", used * (1 << 30) / done)
                for label, depth in (("qemu-img bench", "1"), ("the same, depth 8", "8")):
                    argv = ["qemu-img", "bench", "-f", "qcow2", "-t", "writeback", "-d", depth, "-s", "1M", "-S", "1M"]
                    wall, used = spent([*argv, "-c", str(mib), name])
                    speed.add(kind, label, mib / wall)
                    processor.add(kind, label, used * 1024 / mib)
                name = f"{small}.{kind}"
                ours = subprocess.check_output([READ, name, "rand", "2"], text=True).split()
                random.add(kind, "imgmount", float(ours[1]) / float(ours[2]) / 1000)
                argv = ["qemu-img", "bench", "-f", "qcow2", "-t", "writeback", "-d", "1", "-s", "4k", "-S", "663617536"]
                wall, _ = spent([*argv, "-c", "20000", name])
                random.add(kind, "qemu-img bench", 20 / wall)
    for table in (speed, processor, random):
        table.show()
