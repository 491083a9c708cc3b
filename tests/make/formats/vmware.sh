#!/usr/bin/env bash
# VMDK deltas, COWD and seSparse; differencing VHD, VDI and VHDX; VHDX of 4 KiB sectors and with logs that wait. What
# qemu-img does not write, an encoder below writes from the specification; what it does not read or reads wrongly (VHD
# with a parent) is compared with what went into the encoder. See lib.sh.
# shellcheck source=tests/make/formats/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
make_disk

# vmdk: deltas over every kind of parent that qemu makes, two levels, zeroed grains, split, larger than their parent
delta() { # name, parent, [options], [size]
    qemu-img create -q -f vmdk ${3:+-o "$3"} -b "$2" -F vmdk "$1" ${4:+"$4"}
    change vmdk "$1" -c 'write -P 33 1M 70k' -c 'write -P 34 3333k 1k'
    case_of "$1" vmdk
}
for sub in monolithicSparse monolithicFlat twoGbMaxExtentSparse twoGbMaxExtentFlat streamOptimized; do
    qemu-img convert -f raw -O vmdk -o subformat=$sub s.raw $sub.vmdk
    delta over-$sub.vmdk $sub.vmdk
done
delta delta2.vmdk over-monolithicFlat.vmdk
delta split-delta.vmdk monolithicSparse.vmdk subformat=twoGbMaxExtentSparse
delta larger-delta.vmdk monolithicSparse.vmdk '' 9M
qemu-img create -q -f vmdk -o zeroed_grain=on,hwversion=7 -b monolithicSparse.vmdk -F vmdk zeroed-delta.vmdk
change vmdk zeroed-delta.vmdk -c 'write -z 2M 256k' -c 'write -P 5 4M 64k'
case_of zeroed-delta.vmdk vmdk
qemu-img create -q -f vmdk -o hwversion=11,toolsversion=2147483647 hw.vmdk 3M
case_of hw.vmdk vmdk

# vhdx: parents and children to be, and images whose log will be written
qemu-img convert -f raw -O vhdx -o block_size=1M s.raw parent.vhdx
for name in child child-4k; do qemu-img create -q -f vhdx -o block_size=1M $name.vhdx "$(stat -c %s s.raw)"; done
cp parent.vhdx parent-4k.vhdx
for name in one several wrapped torn stale advanced grown; do cp parent.vhdx log-$name.vhdx; done
# vdi: a dynamic one to be punched
qemu-img convert -f raw -O vdi s.raw marks.vdi

python3 - <<'PYTHON'
import re, struct, zlib

disk = open('s.raw', 'rb').read()
SIZE = len(disk)
SECTORS = SIZE // 512


def put(file, offset, data):
    file.seek(offset)
    file.write(data)


# What the children write over the disk: offset and bytes, none of whole grains, one over a border of a mebibyte.
CHANGES = [(0, b'child' * 205), ((1 << 20) - 1024, b'\x5a' * 4096), (3 << 20, b'\xa5' * (300 << 10)), (SIZE - 512, b'e' * 512)]
CHANGES = [(at, data[:len(data) // 512 * 512]) for at, data in CHANGES]


def changed(base, changes=CHANGES):
    disk = bytearray(base)
    for at, data in changes:
        disk[at:at + len(data)] = data
    return bytes(disk)


def touched(unit, changes=CHANGES):
    """Numbers of the units that the changes write to."""
    return sorted({n for at, data in changes for n in range(at // unit, (at + len(data) - 1) // unit + 1)})


def save(name, data):
    with open(name, 'wb') as file:
        file.write(data)


child = changed(disk)
save('child.raw', child)


# --- VMDK ---
def descriptor(name, kind, lines, parent=None, more='', end='\n'):
    head = open(parent, 'rb').read(65536) if parent else b''
    cid = re.search(rb'\nCID=([0-9a-f]+)', head)[1].decode() if parent else 'ffffffff'
    hint = f'parentFileNameHint="{parent}"\n' if parent else ''
    text = (f'# Disk DescriptorFile\nversion=1\nCID={zlib.crc32(name.encode()):08x}\nparentCID={cid}\ncreateType="{kind}"\n{hint}{more}'
            f'\n# Extent description\n' + '\n'.join(lines) + '\n\n# The Disk Data Base\n#DDB\nddb.adapterType = "lsilogic"\n')
    save(name, text.replace('\n', end).encode())


def cowd(name, data, grain, stored, capacity=None, children=0):
    """"ESX Server Sparse Extents": 4 sectors of header, directory, tables of 4096 entries, grains of `grain` sectors."""
    sectors = capacity or len(data) // 512
    tables = -(-sectors // (4096 * grain))
    directory, where = [0] * tables, {}
    free = 4 + -(-tables * 4 // 512)
    with open(name, 'wb') as file:
        for n in stored:
            if directory[n // 4096] == 0:
                directory[n // 4096], free = free, free + 32
                where[n // 4096] = [0] * 4096
        for n in stored:
            where[n // 4096][n % 4096] = free
            put(file, free * 512, data[n * grain * 512:(n + 1) * grain * 512].ljust(grain * 512, b'\0'))
            free += grain
        for table, entries in where.items():
            put(file, directory[table] * 512, struct.pack('<4096I', *entries))
        put(file, 4 * 512, struct.pack(f'<{tables}I', *directory))
        put(file, 0, struct.pack('<4s7I', b'COWD', 1, 3, sectors, grain, 4, tables, free))
        file.truncate(free * 512)


def nonzero(data, unit):
    return [n for n in range(-(-len(data) // unit)) if data[n * unit:(n + 1) * unit].strip(b'\0')]


cowd('cowd-delta.vmdk', disk, 1, nonzero(disk, 512))
descriptor('cowd.vmdk', 'vmfsSparse', [f'RW {SECTORS} VMFSSPARSE "cowd-delta.vmdk"'])
cowd('cowd16-delta.vmdk', disk, 16, nonzero(disk, 8192))
descriptor('cowd16.vmdk', 'vmfsSparse', [f'RW {SECTORS} VMFSSPARSE "cowd16-delta.vmdk"'], end='\r\n')


def two(name, half):
    cowd(f'{name}-s001.vmdk', disk[:half * 512], 16, nonzero(disk[:half * 512], 8192))
    cowd(f'{name}-s002.vmdk', disk[half * 512:], 1, nonzero(disk[half * 512:], 512))
    descriptor(f'{name}.vmdk', 'vmfsSparse', [f'RW {half} SPARSE "{name}-s001.vmdk"', f'RW {SECTORS - half} VMFSSPARSE "{name}-s002.vmdk"'])


half = 4992  # sectors: more than a table has of one
two('cowd2', half)
two('cowd3', 5000)  # ends amid a grain, whose rest qemu reads in place of the next extent
cowd('redo-delta.vmdk', child, 1, touched(512))
descriptor('redo.vmdk', 'vmfsSparse', [f'RW {SECTORS} VMFSSPARSE "redo-delta.vmdk"'], parent='monolithicFlat.vmdk')
# Far apart: whole tables are missing between the two grains.
with open('far.raw', 'wb') as file:
    put(file, 9 << 20, b'\x11' * 512)
    file.truncate(40 << 20)
far = open('far.raw', 'rb').read()
cowd('far-delta.vmdk', far, 1, nonzero(far, 512))
descriptor('far.vmdk', 'vmfsSparse', [f'RW {len(far) // 512} VMFSSPARSE "far-delta.vmdk"'])


def sesparse(name, data, stored, zeros=(), unmapped=(), journal=0, spread=41):
    """Numbers of grains are spread so that both parts of an entry (low 12 bits on top, the rest below) are used."""
    sectors = len(data) // 512
    tables = -(-sectors // (4096 * 8))
    where = {}
    entry = lambda n, value: where.setdefault(n // 4096, [0] * 4096).__setitem__(n % 4096, value)
    with open(name, 'wb') as file:
        first = 4096
        for i, n in enumerate(stored):
            # Several in a row lie in a row, then there is a gap.
            number = (i // 3) * spread * 3 + i % 3
            entry(n, 3 << 60 | (number & 0xfff) << 48 | number >> 12)
            put(file, (first + number * 8) * 512, data[n * 4096:(n + 1) * 4096].ljust(4096, b'\0'))
        for n in unmapped:
            entry(n, 1 << 60)
        for n in zeros:
            entry(n, 2 << 60)
        # The tables lie in the opposite order of the directory's.
        order = {table: i for i, table in enumerate(sorted(where, reverse=True))}
        directory = [(1 << 60 | order[t]) if t in order else 0 for t in range(tables)]
        put(file, 8 * 512, struct.pack(f'<{tables}Q', *directory))
        for table, entries in where.items():
            put(file, (64 + order[table] * 64) * 512, struct.pack('<4096Q', *entries))
        put(file, 0, struct.pack('<26Q', 0xcafebabe, 0x200000001, sectors, 8, 64, 0, 0, 0, 0, 0, 1, 1, 2, 1, 3, 1,
                                 8, 8, 64, 1024, 1200, 8, 1300, 8, first, 1 << 20).ljust(512, b'\0'))
        put(file, 512, struct.pack('<4Q', 0xcafecafe, 0, 0, journal).ljust(512, b'\0'))


sesparse('se-sesparse.vmdk', disk, nonzero(disk, 4096), zeros=[3, 4, 1535], unmapped=[5, 1000])
descriptor('se.vmdk', 'seSparse', [f'RW {SECTORS} SESPARSE "se-sesparse.vmdk"'])
sesparse('snap-sesparse.vmdk', child, touched(4096), zeros=[600, 601, 700], unmapped=[601, 602])
descriptor('snap.vmdk', 'seSparse', [f'RW {SECTORS} SESPARSE "snap-sesparse.vmdk"'], parent='over-monolithicFlat.vmdk')
sesparse('huge-sesparse.vmdk', far, nonzero(far, 4096), spread=5000)
descriptor('huge.vmdk', 'seSparse', [f'RW {len(far) // 512} SESPARSE "huge-sesparse.vmdk"'])
sesparse('journal-sesparse.vmdk', disk, nonzero(disk, 4096), journal=1)
descriptor('journal.vmdk', 'seSparse', [f'RW {SECTORS} SESPARSE "journal-sesparse.vmdk"'])


def stream(name, data, version, grain=128):
    """"Stream-Optimized Compressed Sparse Extents" as VMware writes them: markers, directory at the end, footer."""
    text = f'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="streamOptimized"\nRDONLY {len(data) // 512} SPARSE "{name}"\nddb.virtualHWVersion = "4"\n'
    out = bytearray(128 * 512)
    out[512:512 + len(text)] = text.encode()
    pad = lambda: out.extend(bytes(-len(out) % 512))
    marker = lambda sectors, kind: out.extend(struct.pack('<QII', sectors, 0, kind).ljust(512, b'\0'))
    unit, directory = grain * 512, []
    for first in range(0, -(-len(data) // unit), 512):
        table = [0] * 512
        for n in range(first, min(first + 512, -(-len(data) // unit))):
            part = data[n * unit:(n + 1) * unit]
            if part.strip(b'\0'):
                packed = zlib.compress(part.ljust(unit, b'\0'))
                table[n % 512] = len(out) // 512
                out.extend(struct.pack('<QI', n * grain, len(packed)) + packed)
                pad()
        if any(table):
            marker(4, 1)
            directory.append(len(out) // 512)
            out.extend(struct.pack('<512I', *table))
        else:
            directory.append(0)
    marker(1, 2)
    gd = len(out) // 512
    out.extend(struct.pack(f'<{len(directory)}I', *directory))
    pad()
    head = lambda gd: struct.pack('<4sIIQQQQIQQQB4sH', b'KDMV', version, 0x30001, len(data) // 512, grain, 1, 20, 512, 0, gd, 128, 0, b'\n \r\n', 1).ljust(512, b'\0')
    marker(1, 3)
    out.extend(head(gd))
    marker(0, 0)
    out[:512] = head(0xffffffffffffffff)
    save(name, out)


for version in (1, 2, 3):
    stream(f'stream{version}.vmdk', disk, version)
stream('stream-far.vmdk', far, 3, grain=16)

# Kinds of extents beside each other, written as nobody's program would: what an extent's line may look like.
save('flat part.vmdk', b'skip' * 128 + disk[:half * 512])
descriptor('custom.vmdk', 'custom', [
    f'\tRDONLY   {half}\tFLAT "flat part.vmdk"   1', f'rw {SECTORS - half} VMFSSPARSE "cowd2-s002.vmdk"', 'RW 10 ZERO',
    f'RW {SECTORS} sparse "monolithicSparse.vmdk"'], more='encoding="windows-1252"\n', end='\r\n')
save('custom.ref', disk + bytes(5120) + disk)
flat = 'RW 8 FLAT "flat part.vmdk" 0'
for kind in ('fullDevice', 'partitionedDevice', 'vmfsRaw', 'vmfsRDM', 'vmfsRDMP', 'vmfsPassthroughRawDeviceMap', 'noSuchType'):
    descriptor(f'{kind}.vmdk', kind, [flat])
descriptor('rdm-extent.vmdk', 'custom', ['RW 8 VMFSRDM "x-rdm.vmdk"'])
descriptor('noaccess.vmdk', 'monolithicFlat', ['NOACCESS 8 FLAT "flat part.vmdk" 0'])
descriptor('concurrent.vmdk', 'monolithicFlat', ['CONCURRENT 8 FLAT "flat part.vmdk" 0'])
descriptor('native.vmdk', 'vmfs', [flat], more='isNativeSnapshot="yes"\n')
descriptor('locked.vmdk', 'monolithicFlat', [flat], more='encryption.keySafe = "vmware:key/list/x"\n')


# --- VHD, "Virtual Hard Disk Image Format Specification" ---
def sealed(block, at):
    block = bytearray(block)
    block[at:at + 4] = struct.pack('>I', ~sum(block) & 0xffffffff)
    return bytes(block)


def footer(kind, ident, size, time=700000000, creator=b'win '):
    offset = 0xffffffffffffffff if kind == 2 else 512
    return sealed(struct.pack('>8sIIQI4sI4sQQHBBII16s', b'conectix', 2, 0x10000, offset, time, creator, 0xa0000, b'Wi2k', size,
                              size, 16, 12, 17, kind, 0, ident).ljust(512, b'\0'), 64)


def differencing(name, data, base_id, names, ident, block=2 << 20, changes=CHANGES, time=0, title='C:\\vm\\base.vhd'):
    """A block holds the changed sectors, whose bits are set, highest bit first; its other bytes are rubbish."""
    size, table, bitmap = len(data), 4096, -(-block // 512 // 8 // 512) * 512
    entries = -(-size // block)
    bat = [0xffffffff] * entries
    sectors = touched(512, changes)
    locators, texts = b'', []
    at = table + -(-entries * 4 // 512) * 512
    for code, text in names:
        locators += struct.pack('>4sIIIQ', code, 512, len(text), 0, at)
        texts.append((at, text))
        at += 512
    with open(name, 'wb') as file:
        for where, text in texts:
            put(file, where, text)
        for n in sorted({s * 512 // block for s in sectors}):
            bat[n] = at // 512
            bits, content = bytearray(bitmap), bytearray(b'\xee' * block)
            for s in sectors:
                if s * 512 // block == n:
                    i = s - n * block // 512
                    bits[i // 8] |= 0x80 >> i % 8
                    content[i * 512:(i + 1) * 512] = data[s * 512:(s + 1) * 512]
            put(file, at, bytes(bits + content))
            at += bitmap + block
        header = struct.pack('>8sQQIIII16sII512s', b'cxsparse', 0xffffffffffffffff, table, 0x10000, entries, block, 0, base_id,
                             time, 0, title.encode('utf-16-be')) + locators
        put(file, 512, sealed(header.ljust(1024, b'\0'), 36))
        put(file, table, struct.pack(f'>{entries}I', *bat).ljust(-(-entries * 4 // 512) * 512, b'\xff'))
        for place in (0, at):
            put(file, place, footer(4, ident, size))


w2ru = lambda text: (b'W2ru', text.encode('utf-16-le'))
w2ku = lambda text: (b'W2ku', text.encode('utf-16-le'))
save('base.vhd', disk + footer(2, b'B' * 16, SIZE))
differencing('child.vhd', child, b'B' * 16, [w2ku('C:\\vm\\base.vhd'), w2ru('.\\base.vhd')], b'C' * 16)
differencing('absolute.vhd', child, b'B' * 16, [w2ru('..\\gone\\nowhere.vhd'), w2ku('D:\\old\\base.vhd')], b'D' * 16, block=4096, title='nowhere.vhd')
differencing('title.vhd', child, b'B' * 16, [], b'I' * 16)
differencing('mac.vhd', child, b'B' * 16, [(b'MacX', b'file://localhost/Users/me/ba%73e.vhd')], b'E' * 16, block=512 << 10, title='')
more = [(777 * 512, b'2' * 512), (3 << 20, b'3' * 1024)]
differencing('grandchild.vhd', changed(child, more), b'C' * 16, [w2ru('.\\child.vhd')], b'F' * 16, changes=more, title='C:\\vm\\child.vhd')
save('grandchild.raw', changed(child, more))
# As a file system of 4 KiB clusters writes: libvhdi takes what follows a set bit in the same byte for set, too.
even = [(64 << 10, b'8' * 8192), (2 << 20, b'9' * 4096), ((4 << 20) - 8192, b'7' * 16384)]
differencing('even.vhd', changed(disk, even), b'B' * 16, [w2ru('.\\base.vhd')], b'J' * 16, changes=even)
save('even.raw', changed(disk, even))
differencing('other-id.vhd', child, b'X' * 16, [w2ru('.\\base.vhd')], b'G' * 16)
differencing('older.vhd', child, b'B' * 16, [w2ru('.\\base.vhd')], b'H' * 16, time=600000000)
# A footer of 511 bytes, as before Virtual PC 2004; the checksum is the same, for the byte that is missing is zero.
save('short.vhd', disk + footer(2, b'S' * 16, SIZE)[:511])


# --- VDI, VirtualBox VDICore.h ---
def vdi(name, data, kind, ident, modified, parent=bytes(32), marks=None, block=1 << 20, extra=0, stored=None):
    """Blocks lie in the opposite order of the disk's; `marks` are entries of blocks that are not stored."""
    marks, blocks = marks or {}, -(-len(data) // block)
    table = [marks.get(n, 0xffffffff) for n in range(blocks)]
    with open(name, 'wb') as file:
        stored = [n for n in (range(blocks) if stored is None else stored) if n not in marks]
        for number, n in enumerate(reversed(stored)):
            table[n] = number
            put(file, 8192 + number * (block + extra), b'x' * extra + data[n * block:(n + 1) * block].ljust(block, b'\0'))
        put(file, 0, struct.pack('<64sIIIII256sIIIIIIIQIIII16s16s16s16s', b'<<< Oracle VM VirtualBox Disk Image >>>\n', 0xbeda107f,
                                 0x10001, 400, kind, 0, b'', 512, 8192, 0, 0, 0, 512, 0, len(data), block, extra, blocks,
                                 len(stored), ident, modified, parent[:16], parent[16:]))
        put(file, 512, struct.pack(f'<{blocks}I', *table))


FREE, ZERO = 0xffffffff, 0xfffffffe
vdi('vdi-base.vdi', disk, 1, b'b' * 16, b'm' * 16, extra=512, block=64 << 10)
vdi('vdi-child.vdi', child, 4, b'c' * 16, b'n' * 16, parent=b'b' * 16 + b'm' * 16, stored=touched(1 << 20), marks={2: ZERO})
save('vdi-child.raw', vdi_child := changed(child, [(2 << 20, bytes(1 << 20))]))
vdi('vdi-top.vdi', vdi_child, 4, b't' * 16, b'o' * 16, parent=b'c' * 16 + bytes(16), stored=[5])
vdi('vdi-static.vdi', disk, 2, b's' * 16, b'm' * 16)
vdi('vdi-stale.vdi', child, 4, b'u' * 16, b'n' * 16, parent=b'b' * 16 + b'q' * 16, stored=[0])
vdi('vdi-orphan.vdi', child, 4, b'v' * 16, b'n' * 16, parent=b'z' * 16 + bytes(16), stored=[0])
vdi('undo.vdi', disk, 3, b'w' * 16, b'n' * 16)
with open('marks.vdi', 'r+b') as file:
    at = struct.unpack('<I', (file.seek(0x154), file.read(4))[1])[0]
    put(file, at + 4, struct.pack('<II', ZERO, FREE))
    old = bytearray((file.seek(0), file.read(1 << 20))[1])
old[0x44:0x48] = struct.pack('<I', 1)
save('old.vdi', old)

# --- VHDX, [MS-VHDX] ---
TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return struct.pack('<I', crc ^ 0xffffffff)


class Vhdx:
    def __init__(self, name):
        self.file = open(name, 'r+b')
        self.regions = {}
        for n in range(struct.unpack('<I', self.read(196616, 4))[0]):
            guid, offset, length, _ = struct.unpack('<16sQII', self.read(196608 + 16 + 32 * n, 32))
            self.regions[guid[0]] = offset
        self.bat, self.meta = self.regions[0x66], self.regions[0x06]

    def read(self, offset, length):
        self.file.seek(offset)
        return self.file.read(length)

    def put(self, offset, data):
        put(self.file, offset, data)

    def item(self, first):
        """Entry and place of a metadata item, by the first byte of its GUID."""
        for n in range(struct.unpack('<H', self.read(self.meta + 10, 2))[0]):
            entry = self.meta + 32 + 32 * n
            if self.read(entry, 1)[0] == first:
                return entry, self.meta + struct.unpack('<I', self.read(entry + 16, 4))[0]

    def header(self, edit):
        """Writes both headers anew, the second one newer."""
        at = max((65536, 131072), key=lambda at: struct.unpack('<Q', self.read(at + 8, 8))[0])
        header = bytearray(self.read(at, 4096))
        edit(header)
        sequence = struct.unpack('<Q', header[8:16])[0]
        for n, at in enumerate((65536, 131072)):
            header[8:16] = struct.pack('<Q', sequence + 1 + n)
            header[4:8] = bytes(4)
            header[4:8] = crc32c(header)
            self.put(at, header)

    def entry(self, n):
        return struct.unpack('<Q', self.read(self.bat + 8 * n, 8))[0]

    def set_entry(self, n, state, offset):
        self.put(self.bat + 8 * n, struct.pack('<Q', offset | state))

    def end(self):
        return -(-self.file.seek(0, 2) // (1 << 20)) << 20

    def locator(self, pairs):
        table, texts = b'', b''
        start = 20 + 12 * len(pairs)
        for key, value in pairs:
            key, value = key.encode('utf-16-le'), value.encode('utf-16-le')
            table += struct.pack('<IIHH', start + len(texts), start + len(texts) + len(key), len(key), len(value))
            texts += key + value
        kind = bytes.fromhex('b7ef4ab09ed1814ab78925b8e9445913')
        body = kind + struct.pack('<HH', 0, len(pairs)) + table + texts
        _, parameters = self.item(0x37)
        self.put(parameters + 4, struct.pack('<I', 2))
        count = struct.unpack('<H', self.read(self.meta + 10, 2))[0]
        self.put(self.meta + 10, struct.pack('<H', count + 1))
        item = bytes.fromhex('2d5fd3a80bb34d45abf7d3d84834ab0c') + struct.pack('<IIII', 131072, len(body), 4, 0)
        self.put(self.meta + 32 + 32 * count, item)
        self.put(self.meta + 131072, body)

    def write_guid(self):
        at = max((65536, 131072), key=lambda at: struct.unpack('<Q', self.read(at + 8, 8))[0])
        a, b, c, d = struct.unpack('<IHH8s', self.read(at + 32, 16))
        return f'{{{a:08X}-{b:04X}-{c:04X}-{d[:2].hex().upper()}-{d[2:].hex().upper()}}}'


def vhdx_child(name, base, sector):
    """Block 0 and 1 partly here, 3 wholly, 4 zero, the others the parent's; what no bit names is rubbish."""
    image = Vhdx(name)
    image.locator([('parent_linkage', Vhdx(base).write_guid()), ('relative_path', f'.\\{base}'),
                   ('absolute_win32_path', f'C:\\vm\\{base}')])
    if sector != 512:
        image.put(image.item(0x1d)[1], struct.pack('<I', sector))
    ratio = (1 << 23) * sector >> 20
    sectors = touched(sector)
    bits = bytearray(1 << 20)
    result = bytearray(disk)
    for n in range(-(-SIZE // (1 << 20))):
        image.set_entry(n, 0, 0)
    for n, state in ((0, 7), (1, 7), (3, 6)):
        at = image.end()
        image.set_entry(n, state, at)
        content = bytearray(b'\xee' * (1 << 20))
        for s in range((1 << 20) // sector):
            number = n * ((1 << 20) // sector) + s
            if state == 6 or number in sectors:
                content[s * sector:(s + 1) * sector] = child[number * sector:(number + 1) * sector]
                result[number * sector:(number + 1) * sector] = child[number * sector:(number + 1) * sector]
                bits[number // 8] |= 1 << number % 8
        image.put(at, content)
    image.set_entry(4, 2, 0)
    result[4 << 20:5 << 20] = bytes(1 << 20)
    at = image.end()
    image.set_entry(ratio, 6, at)
    image.put(at, bits)
    save(name.replace('.vhdx', '.ref'), result)


vhdx_child('child.vhdx', 'parent.vhdx', 512)
four = Vhdx('parent-4k.vhdx')
four.put(four.item(0x1d)[1], struct.pack('<I', 4096))
four.file.close()
vhdx_child('child-4k.vhdx', 'parent-4k.vhdx', 4096)

GUID = b'log of this disk'
MIB = 1 << 20


def log_entry(sequence, tail, updates, flushed, last=None, guid=GUID):
    """Updates: (offset, 4096 bytes) or (offset, number of zeros)."""
    descriptors, sectors = b'', b''
    for offset, what in updates:
        if isinstance(what, int):
            descriptors += struct.pack('<4sIQQQ', b'zero', 0, what, offset, sequence)
        else:
            descriptors += b'desc' + what[-4:] + what[:8] + struct.pack('<QQ', offset, sequence)
            sectors += b'data' + struct.pack('<I', sequence >> 32) + what[8:-4] + struct.pack('<I', sequence & 0xffffffff)
    length = -(-(64 + len(descriptors)) // 4096) * 4096 + len(sectors)
    head = b'loge' + bytes(4) + struct.pack('<IIQII16sQQ', length, tail, sequence, len(updates), 0, guid, flushed, last or flushed)
    entry = bytearray((head + descriptors).ljust(length - len(sectors), b'\0') + sectors)
    entry[4:8] = crc32c(entry)
    return bytes(entry)


def logged(name, build):
    image = Vhdx(name)
    flushed = image.file.seek(0, 2)

    def edit(header):
        header[48:64] = GUID
        header[68:72] = struct.pack('<I', MIB)
        header[72:80] = struct.pack('<Q', MIB)
    image.header(edit)
    ring = bytearray(MIB)

    def place(at, entry):
        for i in range(0, len(entry), 4096):
            spot = (at + i) % MIB
            ring[spot:spot + 4096] = entry[i:i + 4096]
        return (at + len(entry)) % MIB
    build(image, flushed, place, ring)
    image.put(MIB, ring)
    image.file.close()


page = lambda byte: bytes([byte]) * 8 + bytes(range(256)) * 15 + bytes(236) + bytes([byte + 1]) * 12
block = lambda image, n: image.entry(n) >> 20 << 20  # 0, 2, 4 and 5 are there


def swapped(image):
    """The page of the BAT in which blocks 0 and 2 have changed places."""
    bat = bytearray(image.read(image.bat, 4096))
    bat[0:8], bat[16:24] = bat[16:24], bat[0:8]
    return bytes(bat)


def one(image, flushed, place, ring):
    place(0, log_entry(7, 0, [(image.bat, swapped(image)), (block(image, 4) + 8192, 65536), (block(image, 5) + 4096, page(1))], flushed))


def several(image, flushed, place, ring):
    at = start = 16384
    at = place(at, log_entry(20, start, [(block(image, 0), page(1)), (block(image, 0) + 4096, page(2))], flushed))
    at = place(at, log_entry(21, start, [(block(image, 0), page(3)), (block(image, 0) + 4096, 8192)], flushed))
    place(at, log_entry(22, start, [(block(image, 0) + 8192, page(4)), (image.bat, swapped(image))], flushed))


def wrapped(image, flushed, place, ring):
    start = MIB - 24576
    at = place(start, log_entry(100, start, [(block(image, 0) + 4096 * i, page(i)) for i in range(3)], flushed))
    at = place(at, log_entry(101, start, [(block(image, 4) + 4096 * i, page(9 + i)) for i in range(5)], flushed))
    place(at, log_entry(102, start, [(block(image, 0) + 4096, 4096), (block(image, 2), page(77))], flushed))


def torn(image, flushed, place, ring):
    at = place(0, log_entry(5, 0, [(block(image, 0), page(1))], flushed))
    at = place(at, log_entry(6, 0, [(block(image, 4), page(2))], flushed))
    entry = bytearray(log_entry(7, 0, [(block(image, 2), page(3))], flushed))
    entry[5000] ^= 1
    place(at, entry)


def stale(image, flushed, place, ring):
    """An older sequence, one of another log, and the one that counts."""
    place(40960, log_entry(3, 40960, [(block(image, 0), page(1))], flushed))
    place(81920, log_entry(90, 81920, [(block(image, 4), page(2))], flushed, guid=b'of another log..'))
    place(122880, log_entry(50, 122880, [(block(image, 2), page(3))], flushed))


def advanced(image, flushed, place, ring):
    """The first two are carried out already, and what they wrote was written over since: the tail of the last says so."""
    at = place(0, log_entry(1, 0, [(block(image, 0), page(1))], flushed))
    tail = at = place(at, log_entry(2, 0, [(block(image, 4), page(2))], flushed))
    at = place(at, log_entry(3, tail, [(block(image, 2), page(3))], flushed))
    place(at, log_entry(4, tail, [(block(image, 5), page(4))], flushed))


def grown(image, flushed, place, ring):
    """The file is to be a block longer, and block 1 lies there now. qemu does not lengthen it but by writing there."""
    new = -(-flushed // MIB) * MIB
    bat = bytearray(image.read(image.bat, 4096))
    bat[8:16] = struct.pack('<Q', new | 6)
    place(0, log_entry(1, 0, [(image.bat, bytes(bat)), (new + 4096, page(6)), (new + MIB - 4096, page(8))], flushed, last=new + MIB))


for build in (one, several, wrapped, torn, stale, advanced, grown):
    logged(f'log-{build.__name__}.vhdx', build)
wrap = [(4096 * i, page(i)) for i in range(3)] + [(4 * MIB + 4096 * i, page(9 + i)) for i in range(5)]
save('log-wrapped.ref', changed(disk, wrap + [(4096, bytes(4096)), (2 * MIB, page(77))]))
save('log-advanced.ref', changed(disk, [(2 * MIB, page(3)), (5 * MIB, page(4))]))
PYTHON

for name in cowd cowd16 cowd2 redo far se snap huge stream1 stream2 stream3 stream-far; do case_of $name.vmdk vmdk; done
cmp cowd.vmdk.ref s.raw; cmp cowd2.vmdk.ref s.raw; cmp redo.vmdk.ref child.raw; cmp far.vmdk.ref far.raw; cmp stream3.vmdk.ref s.raw
delta over-cowd.vmdk cowd.vmdk
delta over-se.vmdk snap.vmdk
is cowd3.vmdk vmdk s.raw -
is custom.vmdk vmdk custom.ref -
for kind in fullDevice partitionedDevice vmfsRaw vmfsRDM vmfsRDMP vmfsPassthroughRawDeviceMap noSuchType; do
    refused $kind.vmdk "createType '$kind'"
done
refused rdm-extent.vmdk 'extent type VMFSRDM'
refused noaccess.vmdk 'access NOACCESS'
refused concurrent.vmdk 'access CONCURRENT'
refused native.vmdk isNativeSnapshot
refused locked.vmdk encrypted
refused journal.vmdk journal
refused cowd-delta.vmdk 'one vmfsSparse (COWD) extent'
refused se-sesparse.vmdk 'one seSparse extent'
refused split-delta-s001.vmdk 'one sparse extent'

is base.vhd vhd s.raw -
is short.vhd vhd s.raw -
for name in child absolute title mac older; do is $name.vhd vhd child.raw -; done
is grandchild.vhd vhd grandchild.raw -
is even.vhd vhd even.raw -

is vdi-base.vdi vdi s.raw -
is vdi-child.vdi vdi vdi-child.raw -
is vdi-top.vdi vdi vdi-child.raw -
case_of vdi-static.vdi vdi
case_of marks.vdi vdi
refused undo.vdi 'an undo image'
refused old.vdi 'version 0.1'

is parent-4k.vhdx vhdx s.raw -
is child.vhdx vhdx child.ref -
is child-4k.vhdx vhdx child-4k.ref -
# qemu refuses a log unless it may write: so a copy is mended by it.
for name in one several torn stale grown; do
    cp log-$name.vhdx mended.vhdx
    qemu-img check -q -r all mended.vhdx
    qemu-img convert -f vhdx -O raw mended.vhdx log-$name.ref
    is log-$name.vhdx vhdx log-$name.ref -
done
rm mended.vhdx
# It also carries out what lies before the log's tail, and of a sequence around the end of the ring the last part only.
is log-wrapped.vhdx vhdx log-wrapped.ref -
is log-advanced.vhdx vhdx log-advanced.ref -
