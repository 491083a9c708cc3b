#!/usr/bin/env bash
# ZVHD and ZVHD2, written here from the layout in src/image/zvhd.rs: no writer of theirs can be had. See lib.sh.
# needs: zstd, python3
# shellcheck source=tests/make/formats/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
make_disk
# Blocks are of 2 MiB: 20 of them, in the middle and at the end some of zeros alone
truncate -s 40M s.raw
seq 700000 900000 | put $(( (20 << 20) + 5 ))
seq 1 999 | gzip -9n | put $(( (35 << 20) + 77 ))
/usr/bin/python3 - <<'PY'
import struct, subprocess, zlib
BLOCK = 2 << 20
plain = open("s.raw", "rb").read()
blocks = [plain[at:at + BLOCK] for at in range(0, len(plain), BLOCK)]

def header(cookie, version=0x10004, second=b""):
    head = struct.pack("<8sIIQI4sIIQQII", cookie, 2, 0x10000, 2**64 - 1, 400000000, b"tap\0", version, 0,
                       len(plain) - 512, len(plain), 0, 3)
    rest = bytes(range(16)) + bytes(3) + second
    rest += bytes(512 - len(head) - 4 - len(rest))
    total = sum(head) + sum(rest)
    return (head + struct.pack("<I", ~total & 0xffffffff) + rest).ljust(4096, b"\0")

def record(number, payload, packed=0, size=0):
    out = struct.pack("<12sIIB3xI20x", b"hwstream bg\0", len(payload), number, packed, size)
    assert len(out) == 48
    out += payload
    padded = -(-(len(out) + 4) // 4096) * 4096
    return out.ljust(padded - 4, b"\0") + b"end\0"

def zvhd(name, version, finish, keep_zeros=False):
    packer = zlib.compressobj(6)
    out = header(b"stream", version)
    there = [n for n, block in enumerate(blocks) if keep_zeros or any(block)]
    for n in there:
        last = finish and n == there[-1]
        out += record(n, packer.compress(blocks[n]) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH))
    open(name, "wb").write(out + header(b"stream", version))

def zvhd2(name, method, every_block=0, ended=True, plain_too=False):
    def second(*fields):
        index, bitmap, index_size, bitmap_size, segments, bitmap_segments, count = fields
        return struct.pack("<BIIQQIIIIIIIBB", 1, BLOCK, len(blocks), index, bitmap, index_size, bitmap_size,
                           512 << 10, 4096, segments, bitmap_segments, count, every_block, method)
    empty = second(0, 0, 0, 0, 0, 0, 0)
    out = bytearray(header(b"z2strm", second=empty))
    entries, bits = [], bytearray(4096)
    for n, block in enumerate(blocks):
        if not any(block):
            if every_block:
                entries.append(struct.pack("<QII", 0, n, 0))
                bits[n // 8] |= 1 << n % 8
            continue
        bits[n // 8] |= 1 << n % 8
        if plain_too and n % 2:
            packed, payload = 0, block
        elif method:
            packed, payload = 1, subprocess.run(["zstd", "-qc"], input=block, stdout=subprocess.PIPE, check=True).stdout
        else:
            packer = zlib.compressobj(6)
            packed, payload = 1, packer.compress(block) + packer.flush(zlib.Z_FINISH if ended else zlib.Z_SYNC_FLUSH)
        line = record(n, payload, packed, BLOCK)
        entries.append(struct.pack("<QII", len(out), n, len(line)))
        out += line
    out += header(b"z2strm", second=empty)
    index_at = len(out)
    out += b"".join(entries).ljust(512 << 10, b"\0")
    bitmap_at = len(out)
    out += bits
    count = sum(bin(byte).count("1") for byte in bits)
    out += header(b"z2strm", second=second(index_at, bitmap_at, 512 << 10, 4096, 1, 1, count))
    open(name, "wb").write(out)

zvhd("stream.zvhd", 0x10004, False)
zvhd("ended.zvhd", 0x10003, True)
zvhd("zeros.zvhd", 0x10004, True, keep_zeros=True)
zvhd2("zlib.zvhd2", 0)
zvhd2("open-ended.zvhd2", 0, ended=False)
zvhd2("zstd.zvhd2", 1)
zvhd2("mixed.zvhd2", 1, plain_too=True)
zvhd2("every-block.zvhd2", 1, every_block=1)

# What the layout does not know
def changed(source, name, at, byte):
    data = bytearray(open(source, "rb").read())
    for start in (0, len(data) - 4096):
        data[start + at] = byte
        total = sum(data[start:start + 64]) + sum(data[start + 68:start + 512])
        data[start + 64:start + 68] = struct.pack("<I", ~total & 0xffffffff)
    open(name, "wb").write(data)
changed("zstd.zvhd2", "method2.zvhd2", 141, 2)
changed("zstd.zvhd2", "blocks4M.zvhd2", 90, 0x40)
changed("zstd.zvhd2", "version2.zvhd2", 87, 2)
changed("stream.zvhd", "creator5.zvhd", 32, 5)
PY
for name in stream.zvhd ended.zvhd zeros.zvhd zlib.zvhd2 open-ended.zvhd2 zstd.zvhd2 mixed.zvhd2 every-block.zvhd2; do
    is $name zvhd s.raw -
done
refused method2.zvhd2 'compress method 0x2'
refused blocks4M.zvhd2 'block size 0x400000'
refused version2.zvhd2 'zvhd2 version 0x2'
refused creator5.zvhd 'creator version 0x10005'
