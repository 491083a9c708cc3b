"""The programs that we are measured beside: how each is started, and what is said where one is not installed."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from bench.settings import BINARY, TRIXIE

os.environ["PATH"] += ":/usr/sbin:/sbin"
# How qemu calls what our images' names end with.
QEMU = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx", "vdi": "vdi"}
PACKAGES = {
    "qemu-nbd": "qemu-utils",
    "nbdkit": "nbdkit",
    "fio": "fio",
    "nbdcopy": "libnbd-bin",
    "vmdkmount": "libvmdk-utils",
    "qcowmount": "libqcow-utils",
    "xmount": "xmount",
    "fuse2fs": "fuse2fs",
}


class Absent(Exception):
    """A peer that cannot be measured here, and why."""


def need(program):
    if not shutil.which(program):
        raise Absent(f"-: package {PACKAGES.get(program, program)}")


def kind(image):
    return QEMU[image.rsplit(".", 1)[1]]


def imgmount(image, sock, *more):
    return [BINARY, "-q", "serve", image, "-k", sock, *more]


def qemu_nbd(image, sock):
    need("qemu-nbd")
    return ["qemu-nbd", "-r", "-t", "-e", "0", "-f", kind(image), "-k", sock, image]


def nbdkit(image, sock):
    """nbdkit reads raw disks; anything else is a filter's business."""
    need("nbdkit")
    if kind(image) != "raw":
        raise Absent("-: not read")
    return ["nbdkit", "-f", "-r", "-U", sock, "file", image]


def qcow2dec(image, sock):
    """nbdkit's own reader of QCOW2, which Debian 12's nbdkit lacks: Debian 13's, started out of its root."""
    if kind(image) != "qcow2":
        raise Absent("-: not read")
    of = f"{TRIXIE}/usr/lib/x86_64-linux-gnu/nbdkit"
    if not os.path.exists(f"{of}/filters/nbdkit-qcow2dec-filter.so"):
        raise Absent("-: nbdkit >= 1.42 (tests/make/trixie.sh)")
    filtered = [f"--filter={of}/filters/nbdkit-qcow2dec-filter.so", f"{of}/plugins/nbdkit-file-plugin.so", image]
    return [*trixie("nbdkit"), "-f", "-r", "-U", sock, *filtered]


def trixie(program):
    """The beginning of a command of Debian 13: its own loader with its own libraries, so that no root has to be entered."""
    libraries = f"{TRIXIE}/usr/lib/x86_64-linux-gnu"
    return [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries, f"{TRIXIE}/usr/bin/{program}"]


NBD = {"imgmount": imgmount, "qemu-nbd": qemu_nbd, "nbdkit file": nbdkit, "nbdkit qcow2dec": qcow2dec}


def disk_file(name):
    """A FUSE server of a disk as one file: the command for an image and a mount point, and the file's name."""
    if name != "imgmount":
        need(name)
    return {
        "imgmount": (lambda image, where: [BINARY, "-q", image, where, "--view", "disk"], "disk.raw"),
        "vmdkmount": (lambda image, where: ["vmdkmount", image, where], "vmdk1"),
        "qcowmount": (lambda image, where: ["qcowmount", image, where], "qcow1"),
        "xmount": (lambda image, where: ["xmount", "--in", "raw", image, where], "disk.dd"),
    }[name]


@contextlib.contextmanager
def nbd_server(argv, path, patience=20):
    """Runs an NBD server in the foreground until it greets, and ends it afterwards."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=said)
        try:
            until = time.monotonic() + patience
            while not greets(path):
                if process.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    why = said.read().decode(errors="replace").strip().splitlines()
                    raise Absent(f"-: did not start: {why[-1] if why else 'no greeting'}"[:60])
                time.sleep(0.002)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with contextlib.suppress(OSError):
                os.unlink(path)


def greets(path):
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(5)
        client.connect(path)
        return client.recv(8) == b"NBDMAGIC"
    return False


@contextlib.contextmanager
def fuse_mount(argv, where, file, patience=20):
    """Mounts, waits until `file` under `where` can be read, gives the seconds that this took, unmounts. Those that go to the
    background by themselves and those that stay are both waited for."""
    start = time.perf_counter()
    # One that takes the mount point and never answers would hold whoever looks.
    guard = threading.Timer(patience, subprocess.run, [["umount", "-f", where]])
    guard.start()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(argv, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        try:
            while not readable(os.path.join(where, file)):
                if process.poll() not in (None, 0) or time.perf_counter() - start > patience:
                    said.seek(0)
                    why = said.read().decode(errors="replace").strip().splitlines()
                    raise Absent(f"-: did not mount: {why[-1] if why else 'silent'}"[:60])
                time.sleep(0.0005)
            guard.cancel()
            yield time.perf_counter() - start
        finally:
            guard.cancel()
            unmount(where)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def written_pid(path, patience=10):
    """The process id in a file that a server writes about when it is ready."""
    until = time.monotonic() + patience
    while True:
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            return int(file.read())
        if time.monotonic() > until:
            raise Absent(f"-: no process id in {path}")
        time.sleep(0.002)


def readable(path):
    """Whether the first block of a file comes; a mount point in the making says anything."""
    with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:
        file.read(4096)
        return True
    return False


def unmount(where):
    """Takes a mount away, at once if nobody holds it, lazily after two seconds."""
    for _ in range(20):
        if not os.path.ismount(where):
            return
        if subprocess.run(["umount", where], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", where], stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def kernel_mount(image, where, first):
    """The kernel's own reader on a raw disk's partition that begins at byte `first`."""
    loop = subprocess.check_output(["losetup", "-f", "--show", "-r", "-o", str(first), image], text=True).strip()
    try:
        subprocess.run(["mount", "-o", "ro,noload", loop, where], check=True)
        try:
            yield
        finally:
            unmount(where)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)
