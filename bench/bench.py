"""Takes figures of imgmount and of others in turn, and prints medians and ratios. Started by run.sh."""

import contextlib
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

BINARY, GUEST = sys.argv[1], sys.argv[2]
WANTED = sys.argv[3:] or ["first-byte", "library", "nbd", "remote", "files", "tree", "check"]
RUNS = int(os.environ.get("RUNS", "5"))
HZ = os.sysconf("SC_CLK_TCK")
FORMATS = ["disk.raw", "disk.qcow2", "disk-zlib.qcow2", "disk-zstd.qcow2", "disk.vmdk", "disk-stream.vmdk", "disk.vhd"]
QEMU = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc"}
PARTITION = 2048 * 512


def image(name):
    return os.path.join(GUEST, name)


def warm(*names):
    for name in names:
        with open(image(name), "rb") as file:
            while file.read(1 << 22):
                pass


def family(pid):
    """A process and everything that it started."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children") as file:
                    found += [int(child) for child in file.read().split()]
    return found


def cpu(pid):
    """CPU seconds that a family has used."""
    ticks = 0
    for member in family(pid):
        with contextlib.suppress(OSError), open(f"/proc/{member}/stat") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / HZ


def memory(pid, key):
    """MiB of a family, by a line of /proc/PID/status."""
    kib = 0
    for member in family(pid):
        with contextlib.suppress(OSError), open(f"/proc/{member}/status") as file:
            kib += sum(int(line.split()[1]) for line in file if line.startswith(key))
    return kib / 1024


def spent(argv, **more):
    """Wall seconds, and CPU seconds of all that a command starts and waits for."""
    before = os.times()
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    wall = time.perf_counter() - start
    after = os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


class Table:
    """Figures by row and by who was measured; the first of `who` is us."""

    def __init__(self, title, who, unit):
        self.title, self.who, self.unit, self.rows = title, who, unit, {}

    def add(self, row, who, value):
        self.rows.setdefault(row, {}).setdefault(who, []).append(value)

    def show(self):
        print(f"\n{self.title}, {self.unit}, median of {RUNS} (lowest)")
        print(f"  {'':26}" + "".join(f"{who:>22}" for who in self.who) + "     ratio")
        for row, by in self.rows.items():
            cells = [by.get(who, []) for who in self.who]
            shown = "".join(f"{statistics.median(c):13.3f} ({min(c):.3f})".rjust(22) if c else f"{'-':>22}" for c in cells)
            ratio = ""
            if len(cells) > 1 and cells[0] and cells[1] and statistics.median(cells[1]) > 0:
                ratio = f"{statistics.median(cells[0]) / statistics.median(cells[1]):9.2f}x"
            print(f"  {row:26}{shown}{ratio}")
        sys.stdout.flush()


def first_byte():
    """From the start of the process to the end of one small file of the guest."""
    warm(*FORMATS)
    table = Table("One file: from process start to its last byte (/etc/fstab)", ["imgmount cat", "debugfs on raw"], "ms")
    for _ in range(RUNS * 3):
        for name in FORMATS:
            wall, _ = spent([BINARY, "cat", image(name) + ":/etc/fstab"])
            table.add(name, "imgmount cat", wall * 1000)
            if name == "disk.raw":
                where = f"{image(name)}?offset={PARTITION}"
                wall, _ = spent(["debugfs", "-R", "cat /etc/fstab", where])
                table.add(name, "debugfs on raw", wall * 1000)
    table.show()


def dense(where):
    """A disk of half a GiB, mostly full: MiBs of the guest that hold something, bytes that do not pack, and zeros."""
    size, path = 0, os.path.join(where, "dense.raw")
    with open(image("disk.raw"), "rb") as disk, open(path, "wb") as out:
        while size < 384 << 20 and (part := disk.read(1 << 20)):
            if part.count(0) < len(part) * 0.9:
                size += out.write(part)
        for _ in range(64):
            size += out.write(os.urandom(1 << 20))
        out.truncate(size + (64 << 20))
    return path


def library():
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
                ours = subprocess.check_output([os.environ["READ"], name, "seq", "60"], text=True).split()
                done, _, wall, used = map(float, ours)
                speed.add(kind, "imgmount", done / (1 << 20) / wall)
                processor.add(kind, "imgmount", used * (1 << 30) / done)
                for label, depth in (("qemu-img bench", "1"), ("the same, depth 8", "8")):
                    argv = ["qemu-img", "bench", "-f", "qcow2", "-t", "writeback", "-d", depth, "-s", "1M", "-S", "1M"]
                    wall, used = spent([*argv, "-c", str(mib), name])
                    speed.add(kind, label, mib / wall)
                    processor.add(kind, label, used * 1024 / mib)
                name = f"{small}.{kind}"
                ours = subprocess.check_output([os.environ["READ"], name, "rand", "2"], text=True).split()
                random.add(kind, "imgmount", float(ours[1]) / float(ours[2]) / 1000)
                argv = ["qemu-img", "bench", "-f", "qcow2", "-t", "writeback", "-d", "1", "-s", "4k", "-S", "663617536"]
                wall, _ = spent([*argv, "-c", "20000", name])
                random.add(kind, "qemu-img bench", 20 / wall)
    for table in (speed, processor, random):
        table.show()


@contextlib.contextmanager
def server(argv, path):
    """Runs an NBD server in the foreground until it greets, and ends it afterwards."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for _ in range(5000):
            with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
                client.connect(path)
                if client.recv(8) == b"NBDMAGIC":
                    break
            if process.poll() is not None:
                sys.exit(f"{argv[0]} ended: {process.stderr.read().decode()}")
            time.sleep(0.002)
        yield process.pid
    finally:
        process.terminate()
        process.wait()
        with contextlib.suppress(OSError):
            os.unlink(path)


def nbd():
    """A whole disk through nbdcopy: the server's CPU, its memory, the time it took."""
    who = ["imgmount", "qemu-nbd"] + (["nbdkit"] if shutil.which("nbdkit") else [])
    processor = Table("NBD, whole disk: CPU of the server", who, "s")
    wall = Table("NBD, whole disk: time", who, "s")
    resident = Table("NBD, whole disk: peak resident memory (VmHWM)", who, "MiB")
    anonymous = Table("NBD, whole disk: memory of its own (RssAnon)", who, "MiB")
    cases = [("disk.raw", ["--no-extents"])] + [(name, []) for name in FORMATS]
    with tempfile.TemporaryDirectory() as place:
        for name, how in cases:
            warm(name)
            row = " ".join([name, *how])
            for run in range(RUNS):
                sock = os.path.join(place, f"{run}.sock")
                kind = QEMU[name.rsplit(".", 1)[1]]
                commands = {
                    "imgmount": [BINARY, "serve", image(name), "-k", sock],
                    "qemu-nbd": ["qemu-nbd", "-r", "-t", "-e", "0", "-f", kind, "-k", sock, image(name)],
                }
                if kind == "raw" and "nbdkit" in who:
                    commands["nbdkit"] = ["nbdkit", "-f", "-r", "-U", sock, "file", image(name)]
                for label, argv in commands.items():
                    with server(argv, sock) as pid:
                        took, _ = spent(["nbdcopy", *how, f"nbd+unix:///?socket={sock}", "null:"])
                        processor.add(row, label, cpu(pid))
                        resident.add(row, label, memory(pid, "VmHWM:"))
                        anonymous.add(row, label, memory(pid, "RssAnon:"))
                        wall.add(row, label, took)
    for table in (processor, wall, resident, anonymous):
        table.show()


@contextlib.contextmanager
def far_away():
    """A web server of the guest's images that waits 50 ms before each answer: its URL, and what tells its counts."""
    argv = [sys.executable, os.path.join(os.path.dirname(__file__), "http_server.py"), GUEST, "50"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield url, lambda what="requests": int(urllib.request.urlopen(f"{url}/{what}").read())
    finally:
        process.terminate()
        process.wait()


def remote():
    """Over HTTP with 50 ms a request: one file of the guest; and the whole image, beside curl with eight connections."""
    first = Table("HTTP, 50 ms a request: process start to the last byte of /etc/fstab", ["imgmount cat"], "ms")
    asked = Table("HTTP: requests for that", ["imgmount cat"], "requests")
    speed = Table("HTTP, 50 ms a request: the whole image in a row", ["imgmount", "8 curls", "imgmount hash"], "MiB/s")
    processor = Table("HTTP, the whole image in a row: CPU of the client", ["imgmount", "8 curls"], "s/GiB")
    warm(*FORMATS)
    with far_away() as (url, requests):
        for _ in range(RUNS):
            for name in FORMATS:
                before = requests()
                wall, _ = spent([BINARY, "cat", f"{url}/{name}:/etc/fstab"])
                first.add(name, "imgmount cat", wall * 1000)
                asked.add(name, "imgmount cat", requests() - before)
            for name in ["disk.raw", "disk.qcow2"]:
                size = os.path.getsize(image(name))
                mib, part = size / (1 << 20), -(-size // 8)
                ranges = [f"{at}-{min(at + part, size) - 1}" for at in range(0, size, part)]
                curls = " ".join(f"curl -sf -o /dev/null -r {one} {url}/{name} &" for one in ranges)
                # The container's own bytes, all of them, as curl gets them.
                wall, used = spent([os.environ["READ"], f"{url}/{name}", "seq", "600", str(1 << 20), "raw"])
                speed.add(name, "imgmount", mib / wall)
                processor.add(name, "imgmount", used / mib * 1024)
                wall, used = spent(["sh", "-c", curls + " wait"])
                speed.add(name, "8 curls", mib / wall)
                processor.add(name, "8 curls", used / mib * 1024)
                wall, _ = spent([BINARY, "hash", "--format", "raw", f"{url}/{name}"])
                speed.add(name, "imgmount hash", mib / wall)
    for table in (first, asked, speed, processor):
        table.show()


@contextlib.contextmanager
def kernel_mount(name, where):
    """The kernel's own reader on a raw disk's partition."""
    loop = subprocess.check_output(["losetup", "-f", "--show", "-r", "-o", str(PARTITION), image(name)], text=True).strip()
    try:
        subprocess.run(["mount", "-o", "ro,noload", loop, where], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", where], check=True)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


@contextlib.contextmanager
def our_mount(name, where):
    subprocess.run([BINARY, "-q", image(name), where], check=True)
    try:
        yield
    finally:
        subprocess.run([BINARY, "-q", "unmount", where], check=True)


def files():
    """The tree of files: ready, find, find again, and every byte through tar."""
    who = ["imgmount", "kernel on loop"]
    table = Table("Files through a mount", who, "s")
    steps = [
        ("find", ["find", ".", "-xdev"]),
        ("find again, with sizes", ["find", ".", "-xdev", "-printf", "%s"]),
        ("tar usr", ["sh", "-c", "tar cf - usr | cat"]),
        ("tar usr again", ["sh", "-c", "tar cf - usr | cat"]),
    ]
    names = ["disk.raw", "disk.vmdk", "disk-stream.vmdk", "disk-zstd.qcow2"]
    warm(*names)
    with tempfile.TemporaryDirectory() as where:
        for _ in range(RUNS):
            for name in names:
                mounts = {"imgmount": our_mount, "kernel on loop": kernel_mount}
                if name != "disk.raw":
                    del mounts["kernel on loop"]
                for label, mount in mounts.items():
                    start = time.perf_counter()
                    with mount(name, where):
                        with open(os.path.join(where, "etc/fstab"), "rb") as file:
                            file.read()
                        table.add(f"{name} fstab read", label, time.perf_counter() - start)
                        for step, argv in steps:
                            table.add(f"{name} {step}", label, spent(argv, cwd=where)[0])
    table.show()


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


def tree(only=None):
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


def check():
    """The import check, beside a script that gets the same files out with debugfs and judges nothing; and over HTTP."""
    warm("disk.raw", "disk.qcow2")
    script = os.path.join(os.path.dirname(__file__), "by_hand.sh")
    who = ["check -p tencent", "debugfs script", "check -p all"]
    table = Table("The import check of a real guest", who, "s")
    for _ in range(RUNS):
        for name in ["disk.raw", "disk.qcow2", "disk-stream.vmdk"]:
            for label, profile in [(who[0], "tencent"), (who[2], "all")]:
                start = time.perf_counter()
                subprocess.run([BINARY, "check", image(name), "-p", profile], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                table.add(name, label, time.perf_counter() - start)
            if name == "disk.raw":
                table.add(name, who[1], spent([script, image(name), str(PARTITION)])[0])
    table.show()
    far = [Table("HTTP, 50 ms a request: the import check", ["tencent", "all"], unit) for unit in ("s", "requests", "MiB")]
    with far_away() as (url, count):
        for _ in range(RUNS):
            for name in ["disk.raw", "disk.qcow2", "disk-stream.vmdk"]:
                for profile in ["tencent", "all"]:
                    before, start = (count(), count("bytes")), time.perf_counter()
                    subprocess.run([BINARY, "check", f"{url}/{name}", "-p", profile], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    values = time.perf_counter() - start, count() - before[0], (count("bytes") - before[1]) / (1 << 20)
                    for one, value in zip(far, values):
                        one.add(name, profile, value)
    for one in far:
        one.show()


for wanted in WANTED:
    section, *of = wanted.split("=")
    {
        "first-byte": first_byte,
        "library": library,
        "nbd": nbd,
        "remote": remote,
        "files": files,
        "tree": tree,
        "check": check,
    }[section](*of)
