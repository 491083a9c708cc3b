#!/usr/bin/env python3
"""Files that Windows' overlay filter packed (CompactOS), made with wimlib's compressors.

    wof.py fill MNT PLAIN       packed files into a volume mounted by ntfs-3g -o streams_interface=windows; what they
                                hold into PLAIN
    wof.py few MNT PLAIN        four small packed files
    wof.py mutants MNT PLAIN    files of one damaged chunk; into PLAIN what wimlib makes of those that it takes
    wof.py compressed MNT PLAIN files into a folder whose new files ntfs-3g packs by LZNT1, and the same into PLAIN
    wof.py vectors OUT          tests/fs/ntfs_packed.bin: streams of all three packers, each with the sum of what is in it
    wof.py streams OUT          many more streams, for measuring
"""
import ctypes
import hashlib
import os
import random
import struct
import subprocess
import sys
import tempfile
from array import array

XPRESS, LZX = 1, 2
# Number in the reparse point, compressor of wimlib, bytes of a chunk.
METHODS = {"xpress4k": (0, XPRESS, 4096), "lzx": (1, LZX, 32768), "xpress8k": (2, XPRESS, 8192), "xpress16k": (3, XPRESS, 16384)}
TAG = 0x80000017


class Wimlib:
    def __init__(self):
        self.lib = ctypes.CDLL("libwim.so.15")
        self.lib.wimlib_compress.restype = ctypes.c_size_t
        for name, *types in [
            ("create_compressor", ctypes.c_int, ctypes.c_size_t, ctypes.c_uint, ctypes.c_void_p),
            ("create_decompressor", ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p),
            ("compress", ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p),
            ("decompress", ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p),
        ]:
            getattr(self.lib, "wimlib_" + name).argtypes = types
        self.made = {}

    def coder(self, name, *args):
        if (name, args) not in self.made:
            coder = ctypes.c_void_p()
            status = getattr(self.lib, "wimlib_create_" + name)(*args, ctypes.byref(coder))
            assert status == 0, status
            self.made[name, args] = coder
        return self.made[name, args]

    def pack(self, kind, size, plain, level=20):
        """The packed bytes, or None where they are not fewer."""
        out = ctypes.create_string_buffer(len(plain))
        coder = self.coder("compressor", kind, size, level)
        length = self.lib.wimlib_compress(plain, len(plain), out, max(len(plain) - 1, 0), coder)
        return out.raw[:length] if length else None

    def unpack(self, kind, size, packed, length):
        """The plain bytes, or None where wimlib refuses the stream."""
        out = ctypes.create_string_buffer(length)
        coder = self.coder("decompressor", kind, size)
        status = self.lib.wimlib_decompress(packed, len(packed), out, length, coder)
        return out.raw[:length] if status == 0 else None


WORDS = "the disk of a guest has files and each file has bytes which nobody may change while somebody reads them".split()


def text(length, seed):
    rng = random.Random(seed)
    out = bytearray()
    while len(out) < length:
        out += (rng.choice(WORDS) + rng.choice(["", "s", "ed"]) + rng.choice([" ", " ", " ", ", ", ".\n"])).encode()
    return bytes(out[:length])


def code(length, seed):
    """Like a program: short instructions, and calls (0xe8) whose targets LZX makes absolute: near, far, and around the
    two ends of what it changes."""
    rng = random.Random(seed)
    out = bytearray()
    while len(out) < length:
        out += bytes(rng.choices([0x48, 0x89, 0x8B, 0x55, 0x5D, 0xC3, 0x90, 0x0F], k=rng.randrange(1, 6)))
        if rng.random() < 0.4:
            near = rng.randrange(-len(out) - 40, 40)
            far = rng.choice([near, near, 12_000_000 - len(out) + rng.randrange(-9, 9), rng.randrange(-(1 << 31), 1 << 31)])
            out += b"\xe8" + struct.pack("<i", far)
    return bytes(out[:length])


def noise(length, seed):
    return random.Random(seed).randbytes(length)


def zeros(length, seed):
    return bytes(length)


def mixed(length, seed):
    """Long and short copies, from near and far, between bytes that repeat nothing."""
    rng = random.Random(seed)
    out = bytearray(noise(64, seed))
    while len(out) < length:
        what = rng.random()
        if what < 0.4:
            out += rng.randbytes(rng.randrange(1, 120))
        elif what < 0.6:
            out += bytes([rng.randrange(256)]) * rng.choice([3, 18, 273, 274, 2000])
        else:
            start = rng.randrange(max(0, len(out) - 20000), len(out))
            out += out[start : start + rng.randrange(2, 400)]
    return bytes(out[:length])


KINDS = {"text": text, "code": code, "noise": noise, "zeros": zeros, "mixed": mixed}


def write_wof(mnt, name, number, size, chunks, wrong=None):
    """A file of `size` bytes, in these chunks as they are stored. Says the number of its record."""
    path = os.path.join(mnt, name)
    with open(path, "wb") as file:
        file.truncate(size)
    ends, end = array("Q" if size >> 32 else "I"), 0
    for chunk in chunks[:-1]:
        end += len(chunk)
        ends.append(end)
    if wrong is not None:
        ends[1] = wrong
    if chunks:
        with open(path + ":WofCompressedData", "wb") as stream:
            stream.write(ends.tobytes())
            stream.write(b"".join(chunks))
    # Behind its reparse point, ntfs-3g no longer shows it.
    print(name, os.stat(path).st_ino)
    point = struct.pack("<IHH", TAG, 16, 0) + struct.pack("<IIII", 1, 2, 1, number)
    os.setxattr(path, "system.ntfs_reparse_data", point)


def chunks_of(wimlib, kind, size, plain):
    parts = [plain[at : at + size] for at in range(0, len(plain), size)]
    return [wimlib.pack(kind, size, part) or part for part in parts]


def keep(folder, name, plain):
    with open(os.path.join(folder, name), "wb") as file:
        file.write(plain)


def fill(mnt, plain):
    wimlib = Wimlib()
    for method, (number, kind, size) in METHODS.items():
        # Around one chunk, two chunks, and 64 KiB; then several, and more than a piece of a table.
        sizes = {"text": [1, 300, size - 1, size, size + 1, 2 * size + 7, 65535, 65537], "code": [size, 150_001],
                 "noise": [5, size + 100], "zeros": [size, 200_000], "mixed": [3 * size - 1, 400_000]}
        for name, lengths in sizes.items():
            for length in lengths:
                content = KINDS[name](length, length)
                file = f"{method}-{name}-{length}"
                write_wof(mnt, file, number, length, chunks_of(wimlib, kind, size, content))
                keep(plain, file, content)
        # Some chunks are packed and some are not.
        content = b"".join(KINDS[name](size, at) for at, name in enumerate(["text", "noise", "noise", "code", "noise"] * 9))
        write_wof(mnt, f"{method}-by-turns", number, len(content), chunks_of(wimlib, kind, size, content))
        keep(plain, f"{method}-by-turns", content)
    # The table has several pieces.
    one = text(4096, 1)
    chunk = wimlib.pack(XPRESS, 4096, one)
    other = code(4096, 2)
    packed = [chunk] * 6000
    packed[4095:4099] = [wimlib.pack(XPRESS, 4096, other)] * 4
    write_wof(mnt, "long-table", 0, 4096 * 6000, packed)
    keep(plain, "long-table", one * 4095 + other * 4 + one * 1901)
    # From 4 GiB on, the table has 64-bit numbers. What is not zeros is named in huge.txt: chunk, and text by this seed.
    count = (4 << 30) // 32768 + 3
    chunks = [wimlib.pack(LZX, 32768, bytes(32768))] * count
    lasting = [0, 1, 2047, 2048, 77777, count - 3, count - 2]
    for at in lasting:
        chunks[at] = wimlib.pack(LZX, 32768, text(32768, at))
    chunks[-1] = wimlib.pack(LZX, 32768, text(1000, count - 1))
    write_wof(mnt, "huge", 1, (count - 1) * 32768 + 1000, chunks)
    for at in lasting:
        keep(plain, f"huge.{at}", text(32768, at))
    keep(plain, f"huge.{count - 1}", text(1000, count - 1))


def few(mnt, plain):
    wimlib = Wimlib()
    for method, (number, kind, size) in METHODS.items():
        content = text(2 * size, number) + noise(size, number) + code(size // 2, number)
        write_wof(mnt, method, number, len(content), chunks_of(wimlib, kind, size, content))


def damage(rng, packed):
    damaged = bytearray(packed)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(damaged))
        damaged[at] = damaged[at] ^ 1 << rng.randrange(8) if rng.random() < 0.7 else rng.randrange(256)
    return bytes(damaged)


def mutants(mnt, plain):
    wimlib = Wimlib()
    rng = random.Random(5)
    for method, (number, kind, size) in METHODS.items():
        for at in range(60):
            content = KINDS[rng.choice(["text", "code", "mixed"])](rng.choice([size, size // 2 + 1, 700]), at)
            packed = wimlib.pack(kind, size, content)
            if packed is None:
                continue
            packed = damage(rng, packed)
            write_wof(mnt, f"{method}-{at}", number, len(content), [packed])
            unpacked = wimlib.unpack(kind, size, packed, len(content))
            if unpacked is not None:
                keep(plain, f"{method}-{at}", unpacked)
    # Tables: chunk 2 begins before chunk 1, or behind the stream's end; and a file without the stream.
    parts = [text(4096, at) for at in range(5)]
    chunks = [wimlib.pack(XPRESS, 4096, part) for part in parts]
    for name, place in [("table-back", 0), ("table-past", 1 << 20)]:
        write_wof(mnt, name, 0, 5 * 4096, chunks, place)
        keep(plain, name, b"".join(parts))
    write_wof(mnt, "table-none", 0, 5 * 4096, [])


def compressed(mnt, plain):
    for name, kind in KINDS.items():
        for length in [1, 4095, 4096, 4097, 65535, 65536, 65537, 300_000]:
            content = kind(length, length)
            keep(mnt, f"{name}-{length}", content)
            keep(plain, f"{name}-{length}", content)
    for folder in [mnt, plain]:
        # Holes of every length, and units that are written in part, again and again.
        with open(os.path.join(folder, "patched"), "wb") as file:
            # With other seeds, ntfs-3g 2022.10.3 fails to write some of them where clusters are smaller than 4 KiB.
            rng = random.Random(4)
            file.write(text(1_000_000, 3))
            for _ in range(150):
                file.seek(rng.randrange(1_200_000))
                file.write(KINDS[rng.choice(list(KINDS))](rng.randrange(1, 20_000), rng.randrange(1000)))
            file.truncate(1_300_001)
        # Pieces that lie between those of another file.
        with open(os.path.join(folder, "first"), "wb") as first, open(os.path.join(folder, "second"), "wb") as second:
            for at in range(60):
                for file, kind in [(first, mixed), (second, text)]:
                    file.write(kind(30_000, at))
                    file.flush()
        with open(os.path.join(folder, "sparse"), "wb") as file:
            for at in [0, 70_000, 700_000, 5_000_000]:
                file.seek(at)
                file.write(code(10_000, at))
            file.truncate(9_000_000)
    for name in os.listdir(mnt):
        print(name, os.stat(os.path.join(mnt, name)).st_ino)


def lznt1(plain, folder):
    """What ntfs-3g makes of 64 KiB: the clusters that there are of the file's only unit."""
    disk, mnt = os.path.join(folder, "disk"), os.path.join(folder, "mnt")
    os.makedirs(mnt, exist_ok=True)
    with open(disk, "wb") as file:
        file.truncate(8 << 20)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["mkntfs", "-F", "-Q", "-c", "4096", disk], check=True, **quiet)
    server = subprocess.Popen(["ntfs-3g", "-o", "no_detach,compression", disk, mnt], **quiet)
    while not os.path.ismount(mnt):
        assert server.poll() is None
    os.setxattr(mnt, "system.ntfs_attrib_be", bytes([0, 0, 8, 0]))
    keep(mnt, "file", plain)
    subprocess.run(["umount", mnt], check=True)
    server.wait()
    said = subprocess.run(["ntfsinfo", "-F", "file", "-v", disk], check=True, capture_output=True, text=True).stdout
    runs = said[said.index("Runlist:", said.index("$DATA")) :].splitlines()[1:]
    packed = b""
    with open(disk, "rb") as file:
        for run in runs:
            fields = run.split()
            if len(fields) != 3 or fields[1].startswith("<"):
                break
            file.seek(int(fields[1], 16) * 4096)
            packed += file.read(int(fields[2], 16) * 4096)
    return packed.rstrip(b"\0") + bytes(4)


def record(number, packed, plain):
    return struct.pack("<BII", number, len(plain), len(packed)) + hashlib.sha256(plain).digest() + packed


def vectors(out):
    wimlib = Wimlib()
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for content in [text(65536, 1)[:30000] + bytes(35536), mixed(9000, 2) + bytes(56536)]:
            records.append(record(0, lznt1(content, folder), content))
    for size, name, length, level in [(4096, "text", 4096, 50), (8192, "mixed", 6000, 100), (16384, "code", 12000, 50),
                                      (16384, "zeros", 16384, 50), (4096, "text", 50, 50)]:
        content = KINDS[name](length, 9)
        packed = wimlib.pack(XPRESS, size, content, level)
        if packed:
            records.append(record(1, packed, content))
    for name, length, level in [("text", 32768, 50), ("code", 20000, 100), ("mixed", 9000, 50), ("zeros", 32768, 50),
                                ("text", 300, 100)]:
        content = KINDS[name](length, 9)
        records.append(record(2, wimlib.pack(LZX, 32768, content, level), content))
    with open(out, "wb") as file:
        file.write(b"".join(records))


def streams(out):
    wimlib = Wimlib()
    with open(out, "wb") as file:
        for number, kind, size in METHODS.values():
            for name in ["text", "code", "mixed"]:
                for at in range(20):
                    content = KINDS[name](size, at)
                    file.write(record(kind, wimlib.pack(kind, size, content, 50), content))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
