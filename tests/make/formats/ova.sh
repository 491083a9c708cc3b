#!/usr/bin/env bash
# OVA, OVF and tar: the disk of lib.sh in every kind of archive and description. The envelopes are written by hand, after
# what VMware's ovftool, VirtualBox and oVirt write. The disks' own bytes are the reference. See lib.sh.
# shellcheck source=tests/make/formats/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
make_disk
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized s.raw d1.vmdk
truncate -s 3M t.raw
seq 1 70000 | put 70000 t.raw
qemu-img convert -f raw -O qcow2 t.raw d2.qcow2

vmdk_uri='http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized'
# file id and name, further attributes
file() { printf '    <File ovf:href="%s" ovf:id="%s" %s/>\n' "$2" "$1" "${3:-}"; }
# disk id, capacity in bytes, further attributes: ovf:fileRef="f1"
disk() { printf '    <Disk ovf:diskId="%s" ovf:capacity="%s" %s/>\n' "$1" "$2" "${3:-}"; }
# disk id, place on the controller
drive() {
    cat <<T
      <Item><rasd:AddressOnParent>$2</rasd:AddressOnParent><rasd:ElementName>Hard Disk</rasd:ElementName><rasd:HostResource>ovf:/disk/$1</rasd:HostResource><rasd:InstanceID>1$2</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
T
}
# files, disks, drives
envelope() {
    cat <<T
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
$1
  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
$2
  </DiskSection>
  <VirtualSystem ovf:id="vm">
    <Info>A virtual machine</Info>
    <Name>two &amp; a half disks</Name>
    <OperatingSystemSection ovf:id="96"><Info>The kind of guest</Info><Description>Debian GNU/Linux 12 (64-bit)</Description></OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>SCSI Controller 0</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
$3
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
T
}
one() { envelope "$(file f1 "${1:-d1.vmdk}" "${2:-}")" "$(disk a "$(stat -c %s s.raw)" "ovf:fileRef='f1' ovf:format='$vmdk_uri'")" "$(drive a 0)"; }
two() {
    envelope "$(file f1 d1.vmdk; file f2 d2.qcow2)" \
        "$(disk b 3 "ovf:capacityAllocationUnits='byte * 2^20' ovf:fileRef='f2'"; disk a "$(stat -c %s s.raw)" "ovf:fileRef='f1' ovf:format='$vmdk_uri'")" \
        "$(drive b 1; drive a 0)"
}
sums() { for name in "${@:2}"; do printf '%s(%s)= %s\n' "${1^^}" "$name" "$("$1sum" "$name" | cut -d' ' -f1)"; done; }

# tar in its three dialects; "./" in front; a lone disk without numbers of its own
one > one.ovf
for format in ustar gnu pax; do
    tar --format=$format -cf one-$format.ova one.ovf d1.vmdk; is one-$format.ova ova s.raw -
done
tar --format=ustar -cf dot.ova ./one.ovf ./d1.vmdk; is dot.ova ova s.raw -
tar --format=gnu -b1 -cf late.ova d1.vmdk one.ovf; is late.ova ova s.raw -
# names longer than a header's field: GNU's 'L', pax's path, ustar's prefix
long=$(printf 'a-long-name-%.0s' {1..12}).vmdk
cp d1.vmdk "$long"; one "$long" > long.ovf
for format in gnu pax; do tar --format=$format -cf long-$format.ova long.ovf "$long"; is long-$format.ova ova s.raw -; done
mkdir -p deep/$(printf 'folder-%.0s' {1..12}); deep=deep/$(printf 'folder-%.0s' {1..12})/d1.vmdk
cp d1.vmdk "$deep"; one "$deep" > deep.ovf
tar --format=ustar -cf deep.ova deep.ovf "$deep"; is deep.ova ova s.raw -
# a name as a URI writes it
cp d1.vmdk 'a disk.vmdk'; one a%20disk.vmdk > blank.ovf
tar -cf blank.ova blank.ovf 'a disk.vmdk'; is blank.ova ova s.raw -
# two disks, the boot disk listed last; a manifest of each kind, and a certificate
two > two.ovf
for sum in sha1 sha256 sha512; do
    sums $sum two.ovf d1.vmdk d2.qcow2 > two.mf
    tar --format=ustar -cf two-$sum.ova two.ovf two.mf d1.vmdk d2.qcow2; is two-$sum.ova ova s.raw -
done
sums sha256 two.ovf d1.vmdk d2.qcow2 > two.mf
echo 'no certificate at all' > two.cert
tar --format=ustar -cf two.ova two.ovf two.mf two.cert d1.vmdk d2.qcow2; is two.ova ova s.raw -
# raw members, one of them empty: VirtualBox and oVirt
truncate -s 5M zero.raw
envelope "$(file f1 s.raw)" "$(disk a "$(stat -c %s s.raw)" "ovf:fileRef='f1'"; disk none 5 "ovf:capacityAllocationUnits='byte * 2^20'")" \
    "$(drive a 0; drive none 1)" > raw.ovf
tar --format=ustar -cf raw.ova raw.ovf s.raw; is raw.ova ova s.raw -
envelope '' "$(disk none 5 "ovf:capacityAllocationUnits='MegaBytes'")" "$(drive none 0)" > empty.ovf
tar -cf empty.ova empty.ovf; is empty.ova ova zero.raw -
# cut into chunks
split -b 100000 -d -a 9 d1.vmdk d1.vmdk.
one d1.vmdk "ovf:chunkSize='100000' ovf:size='$(stat -c %s d1.vmdk)'" > chunks.ovf
tar --format=ustar -cf chunks.ova chunks.ovf d1.vmdk.0*; is chunks.ova ova s.raw -
# packed disks, with and without an ending that says so; packed archives
gzip -9n < d1.vmdk > d1.vmdk.gz
one d1.vmdk.gz "ovf:compression='gzip'" > gz.ovf
tar --format=ustar -cf gz.ova gz.ovf d1.vmdk.gz; is gz.ova ova s.raw -; is gz.ovf ovf s.raw -
mkdir bare; cp d1.vmdk.gz bare/d1.vmdk; one d1.vmdk "ovf:compression='gzip'" > bare/bare.ovf
tar --format=ustar -C bare -cf bare.ova bare.ovf d1.vmdk; rm -r bare; is bare.ova ova s.raw -
gzip -9n < two.ova > two.ova.gz; is two.ova.gz ova s.raw -
xz -c two.ova > two.ova.xz; is two.ova.xz ova s.raw -
zstd -q -c two.ova > two.ova.zst; is two.ova.zst ova s.raw -
# beside the envelope
is one.ovf ovf s.raw -; is two.ovf ovf s.raw -; is chunks.ovf ovf s.raw -; is empty.ovf ovf zero.raw -
# no envelope: members are disks by their names; a flat VMDK has its extent beside it
tar --format=pax -cf plain.tar two.mf d1.vmdk d2.qcow2; is plain.tar tar s.raw -
qemu-img convert -f raw -O vmdk -o subformat=monolithicFlat s.raw flat.vmdk
tar --format=ustar -cf flat.tar flat-flat.vmdk flat.vmdk; is flat.tar tar s.raw -
qemu-img create -q -f qcow2 -b s.raw -F raw over.qcow2; change qcow2 over.qcow2 -c 'write -P 18 1M 33k'
qemu-img convert -f qcow2 -O raw over.qcow2 over.ref
tar --format=gnu -cf over.tar over.qcow2 s.raw; is over.tar tar over.ref -

# what is refused
tar -cf nothing.tar two.mf two.ovf.none 2> /dev/null || true; refused nothing.tar 'without a disk image'
truncate -s 3M holes.raw; echo data | put 1000000 holes.raw
one holes.raw > holes.ovf
for format in gnu pax; do
    tar --sparse --format=$format -cf sparse-$format.ova holes.ovf holes.raw; refused sparse-$format.ova 'a sparse member'
done
one gone.vmdk > gone.ovf
tar -cf gone.ova gone.ovf d1.vmdk; refused gone.ova "'gone.vmdk': the disk's file is missing"; refused gone.ovf "'gone.vmdk': the disk's file is missing"
envelope "$(file f1 d1.vmdk)" "$(disk a 1 "ovf:fileRef='f1' ovf:parentRef='b'")" '' > parent.ovf
tar -cf parent.ova parent.ovf d1.vmdk; refused parent.ova parentRef
ln -sf d1.vmdk link.vmdk; one link.vmdk > link.ovf
tar -cf link.ova link.ovf link.vmdk; refused link.ova "'link.vmdk': is a symbolic link, not a file"
one one-gnu.ova > inner.ovf
tar -cf inner.ova inner.ovf one-gnu.ova; refused inner.ova 'an archive inside an archive'
tar -cf twice.ova one.ovf d1.vmdk; tar -rf twice.ova d1.vmdk    # which of the two?
rm -rf deep "$long"

# A member of 9 GiB, which ustar's eleven octal digits cannot count, with another one behind it. Its bytes are zeros but
# for the last ones; the file has a hole in their place. Not among the cases: they are read whole.
for format in GNU PAX; do
    envelope "$(file f1 big.raw; file f2 d2.qcow2)" "$(disk a $((9 << 30)) "ovf:fileRef='f1'"; disk b $((3 << 20)) "ovf:fileRef='f2'")" '' > big.ovf
    python3 - "$format" "big-${format,,}.ova" <<'P'
import os, sys, tarfile
format, name = getattr(tarfile, sys.argv[1] + "_FORMAT"), sys.argv[2]
with open(name, "wb") as archive:
    for path, size in (("big.ovf", None), ("big.raw", 9 << 30), ("d2.qcow2", None)):
        member = tarfile.TarInfo(path)
        member.size = os.path.getsize(path) if size is None else size
        archive.write(member.tobuf(format))
        if size is None:
            archive.write(open(path, "rb").read())
            archive.seek(-member.size % 512, 1)
        else:
            archive.seek(size - 4, 1)
            archive.write(b"last")
    archive.truncate(archive.tell() + 1024)
P
done
