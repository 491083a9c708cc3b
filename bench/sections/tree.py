"""File systems with many files, each beside its own reader."""

import contextlib
import os
import random
import shutil
import subprocess
import tempfile

from bench.measure import spent
from bench.settings import BINARY, RUNS
from bench.table import Table


# What makes a file system, what the kernel is told to leave its log alone, and who else reads it without the kernel.
class Kind:
    """A kind of file system: how it is made, mounted to be filled, and read by the reader that ours is held against."""

    def __init__(self, mkfs, fill, reference, read, others={}, packs=False):
        self.mkfs, self.fill, self.reference, self.read, self.others, self.packs = mkfs, fill, reference, read, others, packs


def on_loop(options):
    return f"mount -o loop,{options} {{disk}} {{where}}"


KINDS = {
    "ext4": Kind(
        "mkfs.ext4 -q -F -N 200000", on_loop("rw"), "kernel on loop", on_loop("ro,noload"),
        {"fuse2fs": "fuse2fs -o ro,fakeroot {disk} {where}"},
    ),
    "xfs": Kind("mkfs.xfs -q -f", on_loop("rw"), "kernel on loop", on_loop("ro,norecovery")),
    "btrfs": Kind("mkfs.btrfs -q -f", on_loop("rw"), "kernel on loop", on_loop("ro")),
    "ntfs": Kind(
        "mkntfs -q -F -Q", "ntfs-3g -o compression,big_writes {disk} {where}", "ntfs-3g", "ntfs-3g -o ro {disk} {where}", packs=True,
    ),
}


def many_files(where):
    """65,000 paths as a package manager leaves them, most of them short, and one file of 512 MiB."""
    rng = random.Random(7)
    for package in range(650):
        folder = os.path.join(where, "share", f"{package % 26:02}", f"package-{package}", "doc")
        os.makedirs(folder)
        for number in range(97):
            with open(os.path.join(folder, f"some-file-{number}.txt"), "wb") as file:
                file.write(rng.randbytes(int(rng.expovariate(1 / 4000))))
    os.mkdir(os.path.join(where, "big"))
    with open(os.path.join(where, "big", "random.bin"), "wb") as file:
        for _ in range(512):
            file.write(rng.randbytes(1 << 20))


@contextlib.contextmanager
def mounted(mount, where):
    subprocess.run(mount, check=True, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


def packed_file(where):
    """128 MiB of text in a folder that NTFS packs with LZNT1."""
    folder = os.path.join(where, "packed")
    os.mkdir(folder)
    os.setxattr(folder, "system.ntfs_attrib_be", (0x800).to_bytes(4, "big"))
    rng = random.Random(8)
    words = [bytes(rng.choices(b"etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(5000)]
    with open(os.path.join(folder, "text"), "wb") as file:
        for _ in range(128):
            file.write(b" ".join(rng.choices(words, k=300_000))[: 1 << 20])


def run(only=None):
    """A file system with many files: ours beside the kernel's own reader on a loop device or the reader that Linux users know, and others."""
    steps = [
        ("find", "find ."),
        ("find again, sizes", "find . -printf %s"),
        ("tar", "tar cf - share | cat"),
        ("512 MiB file", "dd if=big/random.bin of=/dev/null bs=1M"),
    ]
    packed = [("128 MiB packed by LZNT1", "dd if=packed/text of=/dev/null bs=1M")]
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with tempfile.TemporaryDirectory(dir="target") as scratch:
        where = os.path.join(scratch, "at")
        os.mkdir(where)
        for name, kind in KINDS.items():
            if only not in (None, name):
                continue
            lacks = [line.split()[0] for line in (kind.mkfs, kind.fill) if not shutil.which(line.split()[0])]
            if lacks:
                print(f"\n{name}: skipped: {lacks[0]} is not installed")
                continue
            disk = os.path.join(scratch, name)
            subprocess.run(f"truncate -s 2G {disk} && {kind.mkfs} {disk}", check=True, shell=True, stdout=subprocess.DEVNULL)
            with mounted(kind.fill.format(disk=disk, where=where), where):
                many_files(where)
                if kind.packs:
                    packed_file(where)
            others = {other: line for other, line in kind.others.items() if shutil.which(line.split()[0])}
            who = {"imgmount": f"{BINARY} -q {{disk}} {{where}}", kind.reference: kind.read, **others}
            table = Table(f"65,000 files on {name} through a mount", list(who), "s")
            verbs = Table(f"65,000 files on {name} without a mount", ["imgmount find", f"{kind.reference}: find"], "s")
            for _ in range(RUNS):
                for reader, mount in who.items():
                    subprocess.run(["cat", disk], check=True, stdout=subprocess.DEVNULL)
                    with mounted(mount.format(disk=disk, where=where), where):
                        for step, line in steps + packed * kind.packs:
                            seconds = spent(["sh", "-c", line], cwd=where)[0]
                            table.add(step, reader, seconds)
                            if (step, reader) == ("find", kind.reference):
                                verbs.add("find", f"{reader}: find", seconds)
                verbs.add("find", "imgmount find", spent([BINARY, "find", disk + ":/"])[0])
            table.show()
            verbs.show()
            os.unlink(disk)
