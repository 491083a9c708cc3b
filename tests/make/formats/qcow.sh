#!/usr/bin/env bash
# The rest of the qcow family: qcow2 with subclusters, external data files and snapshots; qcow; QED. See lib.sh.
# shellcheck source=tests/make/formats/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
make_disk
size=$(stat -c %s s.raw)
make_qcow2() { qemu-img convert -f raw -O qcow2 "${@:2}" s.raw "$1"; }
bytes() { printf '%b' "$3" | put "$2" "$1"; } # file, offset, bytes as printf has them

# qcow2, extended L2: every edge of the cluster size (subclusters of 512 bytes to 64 KiB), written, zeroed and discarded
# in pieces that are no whole clusters, and over clusters that were whole, zero or not there
for cluster in 16k 64k 128k 2M; do
    make_qcow2 xl2-$cluster.qcow2 -o extended_l2=on,cluster_size=$cluster
    change qcow2 xl2-$cluster.qcow2 -c 'write -P 7 5k 3k' -c 'write -z 1M 4k' -c 'write -z 3M 1M' -c 'write -P 8 3100k 20k' \
        -c 'discard 4M 64k' -c 'write -P 9 6000k 512' -c "write -P 10 $(( size - 512 )) 512"
    case_of xl2-$cluster.qcow2 qcow2
done
make_qcow2 xl2-packed.qcow2 -c -o extended_l2=on,compression_type=zstd
change qcow2 xl2-packed.qcow2 -c 'write -P 0x5a 100k 3k' -c 'write -z 3M 200k' -c 'write -P 0x5b 3080k 2k'
case_of xl2-packed.qcow2 qcow2
# nothing but subclusters, over a backing file: what is in neither half of a bitmap is the backing file's
overlay() { # name, options of qemu-img create, then of qemu-io
    qemu-img create -q -f qcow2 -b s.raw -F raw -o "$2" "$1"
    change qcow2 "$1" "${@:3}"
    case_of "$1" qcow2
}
overlay xl2-over.qcow2 extended_l2=on,cluster_size=128k -c 'write -P 7 5k 3k' -c 'write -P 8 1M 4k' -c 'write -P 9 1100k 4k' \
    -c 'write -z 2M 40k' -c 'write -z 2120k 4k' -c 'discard 5M 8k' -c 'write -z 5500k 300k' -c 'write -P 11 5600k 9k'
overlay xl2-over-larger.qcow2 extended_l2=on,cluster_size=16k -c 'write -P 7 6500k 700' -c 'write -z 100k 17k'
qemu-img resize -q xl2-over-larger.qcow2 9M
change qcow2 xl2-over-larger.qcow2 -c 'write -P 7 8M 1k'
case_of xl2-over-larger.qcow2 qcow2
# every second subcluster, so that no two runs can be joined
qemu-img create -q -f qcow2 -b s.raw -F raw -o extended_l2=on,cluster_size=64k xl2-comb.qcow2
comb=()
for n in $(seq 0 2 200); do comb+=(-c "write -q -P $(( n % 250 + 1 )) $(( n * 2048 )) 2k"); done
change qcow2 xl2-comb.qcow2 "${comb[@]}"
case_of xl2-comb.qcow2 qcow2

# qcow2, external data file: tables here, clusters there; raw or not; written and zeroed in places; over a backing file
for raw in on off; do
    make_qcow2 data-$raw.qcow2 -o data_file=data-$raw.bin,data_file_raw=$raw
    change qcow2 data-$raw.qcow2 -c 'write -P 7 100k 5k' -c 'write -z 2M 256k' -c 'discard 5M 128k'
    case_of data-$raw.qcow2 qcow2
done
make_qcow2 data-xl2.qcow2 -o data_file=data-xl2.bin,extended_l2=on,cluster_size=128k
change qcow2 data-xl2.qcow2 -c 'write -P 7 100k 5k' -c 'write -z 2M 36k'
case_of data-xl2.qcow2 qcow2
qemu-img create -q -f qcow2 -o data_file=data-empty.bin data-empty.qcow2 5M
change qcow2 data-empty.qcow2 -c 'write -P 7 0 4k' -c 'write -P 8 4M 1M'
case_of data-empty.qcow2 qcow2
overlay data-over.qcow2 data_file=data-over.bin -c 'write -P 7 0 70k' -c 'write -z 3M 64k'
# a data file that names itself raw is the disk, whoever reads it
cmp -n "$size" data-on.bin data-on.qcow2.ref

# qcow2, snapshots: of a disk that was changed and resized in between; what each had is read from a copy put back to it.
# (qemu-img convert -l reads a snapshot with the size that the disk has now.)
snapshots() { # image: its snapshots by name and by id, then the disk of today
    for name in one two 'three 3'; do
        cp "$1" back.qcow2
        qemu-img snapshot -a "$name" back.qcow2
        qemu-img convert -f qcow2 -O raw back.qcow2 "$1.${name:0:3}.ref"
        is "$1" qcow2 "$1.${name:0:3}.ref" - '' "$name"
    done
    rm back.qcow2
    is "$1" qcow2 "$1.one.ref" - '' snapshot.id=1
    case_of "$1" qcow2
}
age() { # image
    qemu-img snapshot -c one "$1"
    change qcow2 "$1" -c 'write -P 0xaa 1M 64k' -c 'write -z 2M 100k'
    qemu-img snapshot -c two "$1"
    change qcow2 "$1" -c 'write -P 0xbb 1M 3k' -c 'discard 3M 1M'
    qemu-img snapshot -c 'three 3' "$1"
    change qcow2 "$1" -c 'write -P 0xcc 0 6M'
}
make_qcow2 snap-v2.qcow2 -o compat=0.10,cluster_size=4k; age snap-v2.qcow2; snapshots snap-v2.qcow2
make_qcow2 snap-zlib.qcow2 -c; age snap-zlib.qcow2; snapshots snap-zlib.qcow2
make_qcow2 snap-xl2.qcow2 -o extended_l2=on,cluster_size=32k; age snap-xl2.qcow2; snapshots snap-xl2.qcow2
qemu-img create -q -f qcow2 -b s.raw -F raw snap-over.qcow2; age snap-over.qcow2; snapshots snap-over.qcow2
make_qcow2 snap-sizes.qcow2 -o cluster_size=512
qemu-img snapshot -c one snap-sizes.qcow2
qemu-img resize -q snap-sizes.qcow2 20M
change qcow2 snap-sizes.qcow2 -c 'write -P 0xaa 19M 64k'
qemu-img snapshot -c two snap-sizes.qcow2
qemu-img resize -q --shrink snap-sizes.qcow2 3M
qemu-img snapshot -c 'three 3' snap-sizes.qcow2
qemu-img resize -q snap-sizes.qcow2 4M
snapshots snap-sizes.qcow2

# qcow2: marks that change nothing for a reader
make_qcow2 lazy.qcow2 -o lazy_refcounts=on; case_of lazy.qcow2 qcow2
cp lazy.qcow2 autoclear.qcow2
bytes autoclear.qcow2 88 '\x80'
is autoclear.qcow2 qcow2 lazy.qcow2.ref qcow2

# qcow: plain, compressed, both in one table, over raw and over qcow2; the L1 table of a large disk
qcow() { qemu-img convert -f raw -O qcow "${@:2}" s.raw "$1"; }
qcow plain.qcow; case_of plain.qcow qcow
# qemu-img 10.0 writes a compressed qcow whole and then fails without a word: compare what it wrote.
qcow packed.qcow -c || true; case_of packed.qcow qcow; cmp s.raw packed.qcow.ref
cp packed.qcow mixed.qcow; change qcow mixed.qcow -c 'write -P 0x5a 100k 200k' -c 'write -P 0xa5 3M 1M'; case_of mixed.qcow qcow
qemu-img create -q -f qcow empty.qcow 5M; case_of empty.qcow qcow
qemu-img create -q -f qcow large.qcow 300M
change qcow large.qcow -c 'write -P 1 0 5k' -c 'write -P 2 99M 70k' -c "write -P 3 $(( (300 << 20) - 512 )) 512"
case_of large.qcow qcow
over() { # format, name, base, its format, options of qemu-io
    qemu-img create -q -f "$1" -b "$3" -F "$4" "$2"
    change "$1" "$2" "${@:5}"
    # qemu would look for a format in a raw backing file and warn; it is told instead.
    qemu-img convert -O raw "json:{'driver': '$1', 'file': {'driver': 'file', 'filename': '$2'}, 'backing': {'driver': '$4', 'file': {'driver': 'file', 'filename': '$3'}}}" "$2.ref"
    is "$2" "$1" "$2.ref" -
}
# a cluster of an overlay is 512 bytes; of an image by itself 4 KiB
over qcow over-raw.qcow s.raw raw -c 'write -P 18 1M 33k' -c 'write -P 19 6M 512'
over qcow over-qcow2.qcow snap-zlib.qcow2 qcow2 -c 'write -P 18 3M 100k'

# QED: every edge of cluster and table size that keeps the image small; zero clusters; over raw and qcow2
for sizes in 4096,2 4096,16 65536,4 1048576,2; do
    name=c${sizes%,*}-t${sizes#*,}.qed
    qemu-img convert -f raw -O qed -o cluster_size=${sizes%,*},table_size=${sizes#*,} s.raw "$name"
    change qed "$name" -c 'write -P 7 5k 3k' -c 'write -z 3M 1M'
    case_of "$name" qed
done
# (qemu opens none whose tables have one cluster, not even its own.)
qemu-img create -q -f qed -o cluster_size=4096,table_size=2 wide.qed 300M
change qed wide.qed -c 'write -P 1 0 5k' -c 'write -P 2 99M 70k' -c 'write -z 100M 9M' -c "write -P 3 $(( (300 << 20) - 512 )) 512"
case_of wide.qed qed
qemu-img create -q -f qed empty.qed 5M; case_of empty.qed qed
over qed over-raw.qed s.raw raw -c 'write -P 18 1M 33k' -c 'write -z 2M 128k' -c 'write -z 300k 64k'
over qed over-qcow2.qed snap-zlib.qcow2 qcow2 -c 'write -P 18 3M 100k' -c 'write -z 4M 64k'
over qed over-qed.qed over-raw.qed qed -c 'write -P 20 2M 10k'
cp c65536-t4.qed need-check.qed
bytes need-check.qed 16 '\x02'
is need-check.qed qed c65536-t4.qed.ref qed

# what must be refused: features nobody knows, by their names
cp c65536-t4.qed bit3.qed; bytes bit3.qed 16 '\x08'; refused bit3.qed 'features bit 3'
