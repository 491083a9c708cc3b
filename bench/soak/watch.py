"""Memory, descriptors and threads of our processes over the time of a soak, and whether they stayed flat."""

import os
import statistics
import time

from bench.measure import descriptors, family, memory

# Growth from the first third to the last that is still called flat: allocators and page sizes breathe.
SLACK_MIB, SLACK_SHARE, SLACK_FILES = 4, 0.05, 8


class Watch:
    """What was seen of one process and its children."""

    def __init__(self, name, pid):
        self.name, self.pid, self.seen, self.start = name, pid, [], time.monotonic()
        self.idle = descriptors(pid)

    def look(self):
        threads = sum(len(os.listdir(f"/proc/{one}/task")) for one in family(self.pid) if os.path.exists(f"/proc/{one}/task"))
        self.seen.append((time.monotonic() - self.start, memory(self.pid, "RssAnon:"), descriptors(self.pid), threads))

    def alive(self):
        return os.path.exists(f"/proc/{self.pid}/stat") and memory(self.pid, "VmRSS:") > 0

    def report(self, warm_up):
        """One line, and what is wrong with it. The cache fills in the `warm_up` seconds, which do not count."""
        seen = [one for one in self.seen if one[0] > warm_up]
        if len(seen) < 6:
            return f"{self.name}: seen too rarely", ["not watched long enough"]
        third = len(seen) // 3
        first, last = seen[:third], seen[-third:]
        mib = [statistics.median(one[1] for one in part) for part in (first, last)]
        files = [statistics.median(one[2] for one in part) for part in (first, last)]
        wrong = []
        if mib[1] > mib[0] * (1 + SLACK_SHARE) + SLACK_MIB:
            wrong.append(f"memory grows from {mib[0]:.1f} to {mib[1]:.1f} MiB")
        if files[1] > files[0] + SLACK_FILES:
            wrong.append(f"descriptors grow from {files[0]:.0f} to {files[1]:.0f}")
        line = (
            f"{self.name:30} anonymous MiB {mib[0]:7.1f} -> {mib[1]:7.1f}, highest {max(one[1] for one in self.seen):7.1f}, "
            f"slope {slope([one[:2] for one in seen]):+6.2f} MiB/min; descriptors {files[0]:.0f} -> {files[1]:.0f}, idle {self.idle}; "
            f"threads at most {max(one[3] for one in seen)}"
        )
        return line, [f"{self.name}: {one}" for one in wrong]

    def left_over(self):
        """After all readers have gone: descriptors that stayed."""
        now = descriptors(self.pid)
        return [f"{self.name}: {now} descriptors after the last reader, {self.idle} before the first"] if now > self.idle + SLACK_FILES else []


def slope(points):
    """MiB a minute, by least squares."""
    mean = [statistics.fmean(column) for column in zip(*points)]
    spread = sum((x - mean[0]) ** 2 for x, _ in points)
    return 60 * sum((x - mean[0]) * (y - mean[1]) for x, y in points) / spread if spread else 0.0
