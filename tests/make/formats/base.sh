#!/usr/bin/env bash
# What qemu-img makes of qcow2, vmdk, vhd, vhdx and vdi; and what is no disk image. See lib.sh.
# shellcheck source=tests/make/formats/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
make_disk
make_qcow2() { qemu-img convert -f raw -O qcow2 "${@:2}" s.raw "$1"; }
qcow2() { make_qcow2 "$@"; case_of "$1" qcow2; }

# qcow2: versions, every edge of the cluster size, widths of the reference count, ways of being allocated
qcow2 v3.qcow2
qcow2 v2.qcow2 -o compat=0.10
for size in 512 4k 64k 2M; do
    qcow2 c$size.qcow2 -o cluster_size=$size
    qcow2 zlib-c$size.qcow2 -c -o cluster_size=$size
    qcow2 zstd-c$size.qcow2 -c -o cluster_size=$size,compression_type=zstd
done
qcow2 zlib-v2.qcow2 -c -o compat=0.10
qcow2 rc1.qcow2 -o refcount_bits=1
qcow2 rc64.qcow2 -o refcount_bits=64
for how in metadata falloc full; do qcow2 pre-$how.qcow2 -o preallocation=$how; done

# qcow2: clusters stated to be zero, over data and over nothing; discarded ones
make_qcow2 zeroed.qcow2
change qcow2 zeroed.qcow2 -c 'write -z 1M 256k' -c 'write -zu 2200k 128k' -c 'write -z 4M 64k' -c 'discard 5M 128k'
case_of zeroed.qcow2 qcow2
# plain clusters written over compressed ones: both kinds in one table
make_qcow2 mixed.qcow2 -c
change qcow2 mixed.qcow2 -c 'write -P 0x5a 100k 200k' -c 'write -P 0xa5 3M 1M'
case_of mixed.qcow2 qcow2
# internal snapshots: the active disk is what counts
make_qcow2 snapshot.qcow2
qemu-img snapshot -c one snapshot.qcow2
change qcow2 snapshot.qcow2 -c 'write -P 0xaa 1M 64k'
qemu-img snapshot -c two snapshot.qcow2
case_of snapshot.qcow2 qcow2
make_qcow2 bitmap.qcow2
qemu-img bitmap --add bitmap.qcow2 b0
case_of bitmap.qcow2 qcow2
# many L1 entries: at 512 bytes a cluster each stands for 32 KiB
qemu-img create -q -f qcow2 -o cluster_size=512 wide.qcow2 300M
change qcow2 wide.qcow2 -c 'write -P 1 0 5k' -c 'write -P 2 99M 70k' -c "write -P 3 $(( (300 << 20) - 512 )) 512"
case_of wide.qcow2 qcow2
qemu-img create -q -f qcow2 empty.qcow2 5M
case_of empty.qcow2 qcow2
# dirty and corrupt: readable
cp v3.qcow2 dirty.qcow2
printf '\x01' | dd of=dirty.qcow2 bs=1 seek=79 conv=notrunc status=none
cp v3.qcow2 corrupt.qcow2
printf '\x02' | dd of=corrupt.qcow2 bs=1 seek=79 conv=notrunc status=none
is dirty.qcow2 qcow2 v3.qcow2.ref
is corrupt.qcow2 qcow2 v3.qcow2.ref

# qcow2 over a backing file: raw, qcow2, vmdk, two levels, larger and smaller than its base, version 2, small clusters
overlay() { # name, base, its format, size or nothing, options
    qemu-img create -q -f qcow2 ${5:+-o "$5"} -b "$2" -F "$3" "$1" ${4:+"$4"}
    change qcow2 "$1" -c 'write -P 18 1M 33k' -c 'write -z 2M 128k'
    case_of "$1" qcow2
}
overlay over-raw.qcow2 s.raw raw
overlay over-qcow2.qcow2 zlib-c64k.qcow2 qcow2
overlay over-two.qcow2 over-raw.qcow2 qcow2
overlay over-larger.qcow2 over-raw.qcow2 qcow2 32M
overlay over-smaller.qcow2 over-raw.qcow2 qcow2 5000192
overlay over-v2.qcow2 v2.qcow2 qcow2 '' compat=0.10
overlay over-small-clusters.qcow2 v3.qcow2 qcow2 '' cluster_size=512
qemu-img convert -f raw -O vmdk s.raw base.vmdk
overlay over-vmdk.qcow2 base.vmdk vmdk

# vmdk: the five subformats, zeroed grains, adapter types
for sub in monolithicSparse monolithicFlat twoGbMaxExtentSparse twoGbMaxExtentFlat streamOptimized; do
    qemu-img convert -f raw -O vmdk -o subformat=$sub s.raw $sub.vmdk
    case_of $sub.vmdk vmdk
done
qemu-img convert -f raw -O vmdk -o zeroed_grain=on,adapter_type=lsilogic s.raw zg.vmdk
change vmdk zg.vmdk -c 'write -z 2M 256k'
case_of zg.vmdk vmdk
# the flat disk of ESXi: the same but for its words
cp monolithicFlat-flat.vmdk vmfs-flat.vmdk
sed -e 's/createType=.*/createType="vmfs"/' -e 's/^RW .*/RW 13288 VMFS "vmfs-flat.vmdk"/' monolithicFlat.vmdk > vmfs.vmdk
case_of vmfs.vmdk vmdk
# more than one extent: 2 GB and what is left; a write across the border
qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse split.vmdk 2200M
change vmdk split.vmdk -c 'write -P 7 2146500608 1M' -c "write -P 8 $(( (2200 << 20) - 65536 )) 64k"
case_of split.vmdk vmdk

# vhd: both kinds, with the size rounded to a geometry (creator qemu) and as it is (creator qem2)
for sub in fixed dynamic; do
    qemu-img convert -f raw -O vpc -o subformat=$sub s.raw chs-$sub.vhd
    case_of chs-$sub.vhd vpc vhd
    qemu-img convert -f raw -O vpc -o subformat=$sub,force_size=on s.raw $sub.vhd
    case_of $sub.vhd vpc vhd
done

# vdi: both kinds
qemu-img convert -f raw -O vdi s.raw dynamic.vdi; case_of dynamic.vdi vdi
qemu-img convert -f raw -O vdi -o static=on s.raw static.vdi; case_of static.vdi vdi
# vhdx: both kinds, and blocks of the largest size, of which a chunk has the fewest; then one that was written in places
qemu-img convert -f raw -O vhdx s.raw dynamic.vhdx; case_of dynamic.vhdx vhdx
qemu-img convert -f raw -O vhdx -o subformat=fixed s.raw fixed.vhdx; case_of fixed.vhdx vhdx
qemu-img convert -f raw -O vhdx -o block_size=256M s.raw large-blocks.vhdx; case_of large-blocks.vhdx vhdx
qemu-img create -q -f vhdx -o block_size=1M scattered.vhdx 300M
change vhdx scattered.vhdx -c 'write -P 5 100M 3k' -c 'write -P 6 7M 2M' -c 'write -P 7 299M 512'
case_of scattered.vhdx vhdx

cp s.raw raw.img
case_of raw.img raw

cp v3.qcow2 bit5.qcow2
printf '\x20' | dd of=bit5.qcow2 bs=1 seek=79 conv=notrunc status=none; refused bit5.qcow2 'bit 5'
cp /bin/true x.elf; refused x.elf 'an ELF program'
seq 1 100 > x.txt; refused x.txt 'a text file'
echo '{"a": 1}' > x.json; refused x.json 'a JSON document'
