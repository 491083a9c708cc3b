"""The guest through NBD, in each format."""

from bench.sections import nbd_sequential
from bench.sections.first_byte import FORMATS
from bench.settings import guest


def run():
    cases = [("raw no-extents", "disk.raw", ["--no-extents"])] + [(name, name, []) for name in FORMATS]
    for table in nbd_sequential.measure("NBD, the guest", cases, guest).values():
        table.show()
