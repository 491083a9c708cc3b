"""How time, CPU and memory of a process and its children are taken."""

import contextlib
import os
import signal
import subprocess
import threading
import time

HZ = os.sysconf("SC_CLK_TCK")


def warm(*paths):
    """Reads files once, so that none of the measured pays for the device."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
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


def descriptors(pid):
    """Open files of a family."""
    count = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            count += len(os.listdir(f"/proc/{member}/fd"))
    return count


def spent(argv, patience=None, **more):
    """Wall seconds, and CPU seconds of all that a command starts and waits for. One that outlives `patience` is ended with all
    of its session, and TimeoutExpired raised."""
    before, start = os.times(), time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **more)
    try:
        status = process.wait(patience)
    except BaseException:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    wall, after = time.perf_counter() - start, os.times()
    if status != 0:
        raise subprocess.CalledProcessError(status, argv)
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


class Peak:
    """The highest anonymous memory (MiB) of a family while a block runs; looked at fifty times a second."""

    def __init__(self, pid):
        self.pid, self.mib, self.over = pid, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self):
        while not self.over.wait(0.02):
            self.mib = max(self.mib, memory(self.pid, "RssAnon:"))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
