"""4 KiB here and there through NBD, by fio: latency of one at a time, CPU and rate of sixteen."""

import json
import os
import subprocess
import tempfile

from bench.measure import cpu, warm
from bench.peers import NBD, Absent, need, nbd_server
from bench.settings import PATIENCE, RUNS, disk
from bench.table import Table, chosen

CASES = [
    ("raw", "disk.raw"),
    ("qcow2", "disk.qcow2"),
    ("qcow2 zlib", "disk-zlib.qcow2"),
    ("qcow2 zstd", "disk-zstd.qcow2"),
    ("vmdk sparse", "disk-sparse.vmdk"),
    ("vmdk streamOptimized", "disk-so.vmdk"),
    ("vhdx", "disk.vhdx"),
]
SECONDS = 2


def fio(sock, depth, seed):
    """Operations, operations a second, and the median latency in microseconds."""
    argv = ["fio", "--name=r", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={sock}", "--rw=randread", "--bs=4k", f"--iodepth={depth}"]
    argv += ["--thread", "--time_based", f"--runtime={SECONDS}", f"--randseed={seed}", "--norandommap", "--io_size=1t", "--size=100%"]
    # fio leaves an empty log of each verification where it stands.
    out = subprocess.run(
        [*argv, "--output-format=json"], capture_output=True, text=True, timeout=PATIENCE, cwd=os.path.dirname(sock)
    ).stdout
    read = json.loads(out[out.index("{") :])["jobs"][0]["read"]
    return read["total_ios"], read["iops"], read["clat_ns"]["percentile"]["50.000000"] / 1000


def run(*rows):
    need("fio")
    who = list(NBD)
    latency = Table("NBD, 4 KiB at random, one at a time: median latency", who, "us")
    single = Table("NBD, 4 KiB at random, one at a time: CPU of the server an operation", who, "us")
    used = Table("NBD, 4 KiB at random, 16 at a time: CPU of the server an operation", who, "us")
    rate = Table("NBD, 4 KiB at random, 16 at a time", who, "operations/s")
    stopped = set()
    with tempfile.TemporaryDirectory() as place:
        for row, name in chosen(CASES, rows):
            warm(disk(name))
            for turn in range(RUNS):
                for label in who[turn % len(who) :] + who[: turn % len(who)]:
                    if (row, label) in stopped:
                        continue
                    sock = os.path.join(place, f"{turn}.sock")
                    try:
                        for depth, times in ((1, latency), (16, rate)):
                            with nbd_server(NBD[label](disk(name), sock), sock) as pid:
                                before = cpu(pid)
                                done, speed, median = fio(sock, depth, turn)
                                each = (cpu(pid) - before) / max(done, 1) * 1e6
                            times.add(row, label, median if depth == 1 else speed)
                            (single if depth == 1 else used).add(row, label, each)
                    except (Absent, subprocess.TimeoutExpired, ValueError) as why:
                        stopped.add((row, label))
                        text = str(why) if isinstance(why, Absent) else f"> {PATIENCE} s: stopped"
                        for table in (latency, single, used, rate):
                            table.note(row, label, text)
    for table, line in ((latency, "NBD raw, 4 KiB QD1, latency p50"), (used, "NBD raw, 4 KiB QD16, CPU per I/O")):
        table.must(line, "raw", "qemu-nbd", 1.0)
        table.aim(line, "raw", "nbdkit file", 1.0)
    for grade, bound in (("must", 5), ("aim", 10)):
        line = "NBD streamOptimized, random QD16"
        rate.hold(grade, line, "vmdk streamOptimized", rate.of("vmdk streamOptimized", "qemu-nbd"), "qemu-nbd", bound, least=True)
    for table in (latency, single, used, rate):
        table.show()
