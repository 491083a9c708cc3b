"""A whole disk through NBD from its first byte to its last: CPU of the server, wall time, memory."""

import os
import subprocess
import tempfile

from bench.measure import cpu, memory, spent, warm
from bench.peers import NBD, Absent, need, nbd_server
from bench.settings import PATIENCE, RUNS, disk
from bench.table import Table, chosen

# What the row is called, the image, what nbdcopy is told beside the default of four connections and skipped holes.
CASES = [
    ("raw no-extents", "disk.raw", ["--no-extents"]),
    ("raw", "disk.raw", []),
    ("qcow2", "disk.qcow2", []),
    ("qcow2 zlib", "disk-zlib.qcow2", []),
    ("qcow2 zstd", "disk-zstd.qcow2", []),
    ("vmdk sparse", "disk-sparse.vmdk", []),
    ("vmdk streamOptimized", "disk-so.vmdk", []),
    ("vhdx", "disk.vhdx", []),
    ("vhd", "disk.vhd", []),
    ("vdi", "disk.vdi", []),
]


def measure(title, cases, image):
    """Each case by each server in turn; the tables by what they show."""
    need("nbdcopy")
    who = list(NBD)
    tables = {
        "cpu": Table(f"{title}: CPU of the server", who, "s"),
        "wall": Table(f"{title}: time", who, "s"),
        "resident": Table(f"{title}: peak resident memory (VmHWM)", who, "MiB"),
        "anonymous": Table(f"{title}: memory of its own (RssAnon)", who, "MiB"),
    }
    stopped = set()
    with tempfile.TemporaryDirectory() as place:
        for row, name, how in cases:
            warm(image(name))
            for turn in range(RUNS):
                for label in who[turn % len(who) :] + who[: turn % len(who)]:
                    if (row, label) in stopped:
                        continue
                    try:
                        figures = one(NBD[label], image(name), os.path.join(place, f"{turn}.sock"), how)
                    except (Absent, subprocess.SubprocessError) as why:
                        stopped.add((row, label))
                        text = f"> {PATIENCE} s: stopped" if isinstance(why, subprocess.TimeoutExpired) else str(why)
                        for table in tables.values():
                            table.note(row, label, text)
                    else:
                        for table, value in zip(tables.values(), figures):
                            table.add(row, label, value)
    return tables


def one(command, image, sock, how):
    """One copy: CPU and wall seconds, peak resident and anonymous MiB of the server."""
    with nbd_server(command(image, sock), sock) as pid:
        wall, _ = spent(["nbdcopy", *how, f"nbd+unix:///?socket={sock}", "null:"], PATIENCE)
        return cpu(pid), wall, memory(pid, "VmHWM:"), memory(pid, "RssAnon:")


def run(*rows):
    tables = measure("NBD, 4 GiB disk", chosen(CASES, rows), disk)
    used, wall = tables["cpu"], tables["wall"]
    for row in ("raw no-extents", "raw"):
        used.must(f"NBD {row}, sequential, CPU", row, "qemu-nbd", 0.75)
        used.aim(f"NBD {row}, sequential, CPU", row, "nbdkit file", 1.0)
    used.must("NBD qcow2 plain, CPU", "qcow2", "qemu-nbd", 1.0)
    used.aim("NBD qcow2 plain, CPU", "qcow2", "nbdkit qcow2dec", 1.0)
    for row in ("qcow2 zlib", "qcow2 zstd"):
        wall.must(f"NBD {row}, time", row, "qemu-nbd", 0.6)
        wall.aim(f"NBD {row}, time", row, "qemu-nbd", 0.5)
    for row in ("vmdk sparse", "vhdx"):
        used.must(f"NBD {row}, CPU", row, "qemu-nbd", 0.6)
        used.hold("aim", f"NBD {row}, CPU", row, used.of("raw", "imgmount"), "our raw", 1.1)
    # A speed of 3x is a time of a third.
    wall.faster("must", "NBD streamOptimized, sequential", "vmdk streamOptimized", "qemu-nbd", 3)
    wall.faster("aim", "NBD streamOptimized, sequential", "vmdk streamOptimized", "qemu-nbd", 5)
    for table in tables.values():
        table.show()
