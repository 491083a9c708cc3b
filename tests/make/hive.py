#!/usr/bin/env python3
r"""Makes a hive of the Windows registry from a text like that of `.reg` files.

usage: hive.py [options] TEXT HIVE           TEXT is a file, or - for standard input
  --name NAME      the name in its base block
  --minor N        version 1.N, 3 to 6 (5)
  --list KIND      lists of subkeys: li, lf or lh (lh from 1.5 on, else lf)
  --leaf N         subkeys in a leaf at most; more make an index root (500)
  --utf16          names in UTF-16 even where one byte a character would do
  --then TEXT      a second state, which is not written into the hive but into logs: the hive is dirty
  --log old|new    their format: old is one HIVE.LOG1, new is HIVE.LOG2 with the first pages and HIVE.LOG1 with the rest

The text: keys from the hive's root on, each with those above it. In quotes `\\` and `\"` stand for what follows, `\n` and
`\u` and four digits for what they do in JSON; in names of keys `&#x`, hexadecimal digits and `;` stand for that unit.

  [ControlSet001\Services\viostor]       [Key] class "text"
  @="default value"                     REG_SZ
  "Start"=dword:00000000                REG_DWORD, hexadecimal; also qword:
  "ImagePath"=expand:"%SystemRoot%\\x"   REG_EXPAND_SZ
  "Group"=multi:"a","b"                 REG_MULTI_SZ
  "Data"=hex:01,02                      REG_BINARY; hex(b):.. any other type by its number
  "Long"=fill:20000                     REG_BINARY of so many bytes 00 01 .. fb (251 is prime: no period of a block)

The layout is that of the "Windows registry file format specification". Nothing here is taken from the reader under test.
"""
import argparse, re, struct, sys

NIL = 0xFFFFFFFF
WRITTEN = 0x01D0000000000000  # 2014-11-14


class Key:
    def __init__(self, name):
        self.name, self.keys, self.values, self.kind = name, {}, {}, ""


def unquote(text):
    def escape(match):
        what = match[1]
        return {"n": "\n"}.get(what, what) if len(what) == 1 else chr(int(what[1:], 16))

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", escape, text[1:-1])


STRING = r'"(?:[^"\\]|\\.)*"'


def data_of(text):
    if text.startswith('"'):
        return 1, (unquote(text) + "\0").encode("utf-16le", "surrogatepass")
    kind, rest = text.split(":", 1)
    if kind == "dword":
        return 4, struct.pack("<I", int(rest, 16))
    if kind == "qword":
        return 11, struct.pack("<Q", int(rest, 16))
    if kind == "expand":
        return 2, (unquote(rest) + "\0").encode("utf-16le", "surrogatepass")
    if kind == "multi":
        texts = [unquote(t) for t in re.findall(STRING, rest)]
        return 7, ("".join(t + "\0" for t in texts) + "\0").encode("utf-16le", "surrogatepass")
    if kind == "fill":
        return 3, bytes(n % 251 for n in range(int(rest)))
    match = re.fullmatch(r"hex(?:\(([0-9a-f]+)\))?", kind)
    if match:
        return int(match[1] or "3", 16), bytes.fromhex(rest.replace(",", " "))
    raise ValueError(f"no such type: {kind}")


def parse(text):
    root, key = Key("ROOT"), None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(";"):
            continue
        try:
            match = re.fullmatch(rf"\[(.*)\](?:\s+class\s+({STRING}))?", line)
            if match:
                key = root
                for part in filter(None, match[1].split("\\")):
                    part = re.sub("&#x([0-9a-f]+);", lambda found: chr(int(found[1], 16)), part)
                    key = key.keys.setdefault(part.upper(), Key(part))
                key.kind = unquote(match[2]) if match[2] else key.kind
                continue
            match = re.fullmatch(rf"(@|{STRING})=(.*)", line)
            name = "" if match[1] == "@" else unquote(match[1])
            key.values[name.upper()] = (name, *data_of(match[2]))
        except (ValueError, TypeError, AttributeError) as error:
            sys.exit(f"line {number}: {line}: {error}")
    return root


class Hive:
    def __init__(self, options):
        self.options, self.bins, self.at, self.end = options, bytearray(), 0, 0
        self.leaf_kind = options.list or ("lh" if options.minor >= 5 else "lf")

    def bin(self, size):
        """A new bin with room for a cell of `size`."""
        self.close()
        start, length = len(self.bins), -(-(size + 32) // 4096) * 4096
        self.bins += struct.pack("<4sIIQQI", b"hbin", start, length, 0, WRITTEN if start == 0 else 0, 0)
        self.bins += bytes(length - 32)
        self.at, self.end = start + 32, start + length

    def close(self):
        """What is left of the last bin is a free cell."""
        if self.at < self.end:
            struct.pack_into("<i", self.bins, self.at, self.end - self.at)

    def cell(self, data):
        size = -(-(len(data) + 4) // 8) * 8
        if self.at + size > self.end:
            self.bin(size)
        at = self.at
        struct.pack_into("<i", self.bins, at, -size)
        self.bins[at + 4 : at + 4 + len(data)] = data
        self.at += size
        return at

    def name(self, name):
        """A name's bytes, and whether it has one byte a character."""
        if not self.options.utf16 and all(ord(c) < 256 for c in name):
            return name.encode("latin-1"), True
        return name.encode("utf-16le", "surrogatepass"), False

    def data(self, data):
        """The size and the offset as a value has them."""
        if len(data) <= 4:
            return len(data) | 1 << 31, int.from_bytes(data, "little")
        if len(data) <= 16344 or self.options.minor < 4:
            return len(data), self.cell(data)
        parts = [self.cell(data[n : n + 16344] + bytes(4)) for n in range(0, len(data), 16344)]
        parts_at = self.cell(struct.pack(f"<{len(parts)}I", *parts))
        return len(data), self.cell(struct.pack("<2sHI", b"db", len(parts), parts_at))

    def value(self, name, kind, data):
        (name, short), (size, at) = self.name(name), self.data(data)
        return self.cell(struct.pack("<2sHIIIHH", b"vk", len(name), size, at, kind, int(short), 0) + name)

    def leaf(self, keys):
        entries = b""
        for name, at in keys:
            hint = b""
            if self.leaf_kind == "lf":
                hint = bytes(ord(c) if ord(c) < 256 else 0 for c in name[:4]).ljust(4, b"\0")
            elif self.leaf_kind == "lh":
                total = 0
                units = name.upper().encode("utf-16le", "surrogatepass")
                for (unit,) in struct.iter_unpack("<H", units):
                    total = (total * 37 + unit) & 0xFFFFFFFF
                hint = struct.pack("<I", total)
            entries += struct.pack("<I", at) + hint
        return self.cell(self.leaf_kind.encode() + struct.pack("<H", len(keys)) + entries)

    def key(self, key, parent):
        name, short = self.name(key.name)
        # The node first, so that its subkeys can point at it.
        at = self.cell(bytes(76 + len(name)))
        children = sorted(key.keys.values(), key=lambda child: child.name.upper())
        keys = [(child.name, self.key(child, at)) for child in children]
        size = self.options.leaf
        leaves = [self.leaf(keys[n : n + size]) for n in range(0, len(keys), size)]
        listed = leaves[0] if leaves else NIL
        if len(leaves) > 1:
            listed = self.cell(struct.pack(f"<2sH{len(leaves)}I", b"ri", len(leaves), *leaves))
        values = [self.value(*value) for value in key.values.values()]
        values_at = self.cell(struct.pack(f"<{len(values)}I", *values)) if values else NIL
        kind = key.kind.encode("utf-16le")
        kind_at = self.cell(kind) if kind else NIL
        # A root has the flags of an entry and of one that cannot be deleted.
        flags = (0x20 if short else 0) | (0x0C if parent is None else 0)
        node = struct.pack(
            "<2sHQIIIIIIIIII4IIHH", b"nk", flags, WRITTEN, 0, NIL if parent is None else parent, len(keys), 0, listed, NIL,
            len(values), values_at, self.security, kind_at, 0, 0, 0, 0, 0, len(name), len(kind),
        )
        self.bins[at + 4 : at + 4 + 76 + len(name)] = node + name
        return at

    def build(self, root):
        # One security descriptor for all: of its own, with nobody in it.
        descriptor = struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)
        self.security = self.cell(bytes(20 + len(descriptor)))
        head = struct.pack("<2sHIIII", b"sk", 0, self.security, self.security, 1, len(descriptor))
        self.bins[self.security + 4 : self.security + 4 + 20 + len(descriptor)] = head + descriptor
        self.root = self.key(root, None)
        count = lambda key: 1 + sum(map(count, key.keys.values()))
        struct.pack_into("<I", self.bins, self.security + 4 + 12, count(root))
        self.close()
        return bytes(self.bins)

    def base(self, size, primary, secondary, kind=0):
        name = self.options.name.encode("utf-16le")[:62].ljust(64, b"\0")
        block = struct.pack(
            "<4sIIQIIIIIII", b"regf", primary, secondary, WRITTEN, 1, self.options.minor, kind, 1, self.root, size, 1
        )
        block = (block + name).ljust(508, b"\0")
        total = 0
        for (word,) in struct.iter_unpack("<I", block):
            total ^= word
        total = {0: 1, NIL: NIL - 1}.get(total, total)
        return block + struct.pack("<I", total)


def marvin(data):
    """Marvin32 with the seed of the specification; `data` are whole words."""
    rotate = lambda x, n: (x << n | x >> (32 - n)) & 0xFFFFFFFF
    low, high = 0x7A4E55C5, 0x82EF4D88
    for word in [*(w for (w,) in struct.iter_unpack("<I", data)), 0x80, 0]:
        low = (low + word) & 0xFFFFFFFF
        high ^= low
        low = (rotate(low, 20) + high) & 0xFFFFFFFF
        high = rotate(high, 9) ^ low
        low = (rotate(low, 27) + high) & 0xFFFFFFFF
        high = rotate(high, 19)
    return high << 32 | low


def entry(number, size, pages):
    """One entry of a new log."""
    body = b"".join(struct.pack("<II", at, len(data)) for at, data in pages) + b"".join(data for _, data in pages)
    length = -(-(40 + len(body)) // 512) * 512
    body = body.ljust(length - 40, b"\0")
    head = struct.pack("<4sIIIIIQ", b"HvLE", length, 0, number, size, len(pages), marvin(body))
    return head + struct.pack("<Q", marvin(head)) + body


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--name", default="")
    parser.add_argument("--minor", type=int, default=5)
    parser.add_argument("--list", choices=["li", "lf", "lh"])
    parser.add_argument("--leaf", type=int, default=500)
    parser.add_argument("--utf16", action="store_true")
    parser.add_argument("--then")
    parser.add_argument("--log", choices=["old", "new"], default="new")
    parser.add_argument("text")
    parser.add_argument("hive")
    options = parser.parse_args()

    def load(path):
        if path == "-":
            return parse(sys.stdin.read())
        with open(path, encoding="utf-8") as file:
            return parse(file.read())

    def write(path, data):
        with open(path, "wb") as file:
            file.write(data)

    sys.setrecursionlimit(10_000)
    hive = Hive(options)
    bins = hive.build(load(options.text))
    if not options.then:
        write(options.hive, hive.base(len(bins), 7, 7).ljust(4096, b"\0") + bins)
        return
    later = Hive(options)
    after = later.build(load(options.then))
    write(options.hive, hive.base(len(bins), 8, 7).ljust(4096, b"\0") + bins)
    pages = [(n, after[n : n + 4096]) for n in range(0, len(after), 4096) if after[n : n + 4096] != bins[n : n + 4096]]
    if options.log == "old":
        bits = bytearray(len(after) // 4096)
        for at, _ in pages:
            bits[at // 4096] = 0xFF
        vector = b"DIRT" + bits
        vector = vector.ljust(-(-len(vector) // 512) * 512, b"\0")
        log = later.base(len(after), 8, 8, 1) + vector + b"".join(data for _, data in pages)
        write(options.hive + ".LOG1", log)
        return
    # Each page an entry of its own; those of the first half in .LOG2, so that the order of the names is wrong.
    half = len(pages) // 2
    number, logs = 8, []
    for part in (pages[:half], pages[half:]):
        log = later.base(len(after), number, number, 6)
        for page in part:
            log += entry(number, len(after), [page])
            number += 1
        logs.append(log)
    # What is left of an older entry, with a number that does not follow, is not part of the log.
    stale = entry(3, len(after), [(0, bytes(4096))])
    write(options.hive + ".LOG2", logs[0] + stale)
    write(options.hive + ".LOG1", logs[1] + stale)


if __name__ == "__main__":
    main()
