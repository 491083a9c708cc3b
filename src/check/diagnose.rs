//! What a file is that is no disk, or whose image cannot be opened: people upload a package, an installation medium, an
//! archive, half of a download, or the page on which a server says that it refuses. The answer names it, shows the
//! bytes that say so, and gives the next step.

use super::{Evidence, Seen, Words, words};
use crate::block::{BlockSource, Probe, ProbeBytes};
use crate::error::{Error, ErrorKind};
use crate::guest::evidence::excerpt;
use crate::text::escape;

/// What is to be done with such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Something is installed from it: a medium, a package, a program.
    Installer,
    /// A disk may be inside: unpack it with this command.
    Packed(&'static str),
    /// A part of a system that boots: a kernel, an initramfs.
    Boot,
    /// Encrypted as a whole.
    Locked,
    /// It describes a disk or a machine, whose bytes lie in another file.
    Description,
    /// What a server sent instead of a file.
    Page,
    /// Something else altogether.
    Other,
}

/// A kind of file that is no disk.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    at: usize,
    magic: &'static [u8],
    /// With its article: `a zip archive`.
    en: &'static str,
    zh: &'static str,
    /// What is to be done with it.
    pub class: Class,
}

const fn kind(at: usize, magic: &'static [u8], en: &'static str, zh: &'static str, class: Class) -> Kind {
    Kind { at, magic, en, zh, class }
}

use Class::{Boot, Description, Installer, Locked, Other, Packed, Page};

/// Kinds that are known by bytes at a place, the more special one first.
const KINDS: &[Kind] = &[
    kind(0x8001, b"CD001", "an ISO image (an optical disc)", "ISO 光盘镜像", Installer),
    kind(0x8001, b"BEA01", "a UDF image (an optical disc)", "UDF 光盘镜像", Installer),
    kind(0, b"\xed\xab\xee\xdb", "an rpm package", "rpm 安装包", Installer),
    kind(0, b"!<arch>\ndebian-binary", "a Debian package (.deb)", "Debian 安装包（.deb）", Installer),
    kind(0, b"!<arch>\n", "an ar archive", "ar 归档文件", Packed("ar x")),
    kind(
        0,
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "a Windows Installer package or an old Office document",
        "Windows 安装包（.msi）或旧版 Office 文档",
        Installer,
    ),
    kind(0, b"MSWIM\0\0\0", "a WIM archive of Windows Setup", "Windows 安装程序的 WIM 文件", Installer),
    kind(0, b"MSCF\0\0\0\0", "a cabinet file", "CAB 压缩文件", Packed("cabextract")),
    kind(0, b"LUKS\xba\xbe", "a LUKS container", "LUKS 加密容器", Locked),
    kind(3, b"-FVE-FS-", "a BitLocker volume", "BitLocker 加密卷", Locked),
    kind(0, b"Salted__", "a file encrypted by openssl enc", "openssl enc 加密的文件", Locked),
    kind(0, b"age-encryption.org/v1", "a file encrypted by age", "age 加密的文件", Locked),
    kind(0, b"-----BEGIN PGP MESSAGE-----", "a file encrypted by GnuPG", "GnuPG 加密的文件", Locked),
    kind(0, b"ADCRYPT\0", "an evidence file encrypted by FTK Imager", "FTK Imager 加密的取证文件", Locked),
    kind(0, b"PK\x03\x04", "a zip archive", "zip 压缩包", Packed("unzip")),
    kind(0, b"PK\x05\x06", "an empty zip archive", "空的 zip 压缩包", Other),
    kind(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z 压缩包", Packed("7z x")),
    kind(0, b"Rar!\x1a\x07", "a rar archive", "rar 压缩包", Packed("unrar x")),
    kind(257, b"ustar", "a tar archive", "tar 归档文件", Packed("tar xf")),
    kind(0, b"\x1f\x8b\x08", "a gzip file", "gzip 压缩文件", Packed("gunzip -k")),
    kind(0, b"\xfd7zXZ\0", "an xz file", "xz 压缩文件", Packed("xz -dk")),
    kind(0, b"\x28\xb5\x2f\xfd", "a zstd file", "zstd 压缩文件", Packed("zstd -d")),
    kind(0, b"BZh", "a bzip2 file", "bzip2 压缩文件", Packed("bunzip2 -k")),
    kind(0, b"\x04\x22\x4d\x18", "an lz4 file", "lz4 压缩文件", Packed("lz4 -dk")),
    kind(0, b"\x02\x21\x4c\x18", "an initramfs packed with lz4", "lz4 压缩的 initramfs", Boot),
    kind(0, b"LZIP", "an lzip file", "lzip 压缩文件", Packed("lzip -dk")),
    kind(0, b"070701", "a cpio archive (an initramfs?)", "cpio 归档文件（可能是 initramfs）", Boot),
    kind(0, b"070702", "a cpio archive (an initramfs?)", "cpio 归档文件（可能是 initramfs）", Boot),
    kind(0, b"070707", "a cpio archive", "cpio 归档文件", Packed("cpio -i <")),
    kind(0x202, b"HdrS", "a Linux kernel", "Linux 内核文件", Boot),
    kind(0, b"\x7fELF", "an ELF program", "ELF 可执行文件", Other),
    kind(0, b"%PDF-", "a PDF document", "PDF 文档", Other),
    kind(0, b"\x89PNG\r\n\x1a\n", "a PNG picture", "PNG 图片", Other),
    kind(0, b"\xff\xd8\xff", "a JPEG picture", "JPEG 图片", Other),
    kind(0, b"SQLite format 3\0", "an SQLite database", "SQLite 数据库", Other),
    kind(
        0,
        b"# Disk DescriptorFile",
        "a VMDK descriptor without the disk's data",
        "VMDK 描述文件（不含磁盘数据）",
        Description,
    ),
    kind(0, b"#!", "a script", "脚本文件", Other),
];

/// A Windows program: `MZ` are also the first bytes of a kernel, so the header it points to must be there.
const PROGRAM: Kind = kind(0, b"MZ", "a Windows program", "Windows 程序", Installer);
/// Kinds of text, by how it begins in lower case, behind white space and an XML declaration.
const TEXTS: &[Kind] = &[
    kind(0, b"<!doctype html", "an HTML page", "HTML 网页", Page),
    kind(0, b"<html", "an HTML page", "HTML 网页", Page),
    kind(0, b"<error", "an error message of an object store", "对象存储返回的错误信息", Page),
    kind(0, b"<envelope", "an OVF description of a machine", "OVF 虚拟机描述文件", Description),
    kind(0, b"<domain", "a libvirt description of a machine", "libvirt 虚拟机描述文件", Description),
    kind(0, b"<", "an XML document", "XML 文档", Other),
    kind(0, b"{", "a JSON document", "JSON 文档", Page),
    kind(0, b"[", "a JSON document", "JSON 文档", Page),
    kind(0, b"", "a text file", "文本文件", Other),
];

/// Bytes of a text that are looked at for what it begins with.
const TEXT_HEAD: usize = 4096;

/// What the first and last bytes are of, if it is no disk. A disk is never named: no row is something that a boot
/// sector, a file system or a partition table begins with.
#[must_use]
pub fn what_is(probe: &Probe<'_>) -> Option<Kind> {
    let is_there = |kind: &&Kind| probe.has(kind.at, kind.magic);
    // A hybrid medium begins as a disk and is an optical disc nevertheless; everything else ends in no boot sector.
    if let Some(found) = KINDS.iter().find(is_there) {
        let is_disk = probe.has(510, &[0x55, 0xaa]) && !matches!(found.class, Installer | Locked | Boot);
        return (!is_disk).then_some(*found);
    }
    let pe = probe.bytes::<4>(0x3c).map(u32::from_le_bytes).and_then(|at| usize::try_from(at).ok());
    if probe.has(0, b"MZ") && pe.is_some_and(|at| probe.has(at, b"PE\0\0")) {
        return Some(PROGRAM);
    }
    text(probe)
}

fn text(probe: &Probe<'_>) -> Option<Kind> {
    if probe.head.is_empty() || !is_text(probe.head) || !is_text(probe.tail) {
        return None;
    }
    let start = text_start(probe.head).to_ascii_lowercase();
    TEXTS.iter().find(|kind| start.starts_with(kind.magic)).copied()
}

/// The beginning of a text, behind white space, a byte order mark and an XML declaration.
fn text_start(head: &[u8]) -> &[u8] {
    let start = head.get(..TEXT_HEAD).unwrap_or(head);
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let Some(rest) = start.strip_prefix(b"<?xml") else { return start };
    let end = rest.iter().position(|byte| *byte == b'>').and_then(|end| rest.get(end.checked_add(1)?..));
    end.unwrap_or_default().trim_ascii_start()
}

/// Is it text, as far as it is seen? Both ends may cut a character in two.
fn is_text(bytes: &[u8]) -> bool {
    let is_control = |byte: &u8| *byte < 0x20 && !matches!(*byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    let odd = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).fold(0, usize::saturating_add);
    !bytes.iter().any(is_control) && odd <= 6
}

impl Kind {
    /// Its name, in a sentence.
    #[must_use]
    pub fn name(&self) -> Words {
        let (en, zh) = (self.en, self.zh);
        words!("{en}", "{zh}")
    }

    /// What to do instead. `file` is safe to show.
    #[must_use]
    pub fn fix(&self, file: &str) -> Words {
        match self.class {
            Installer => words!(
                "install the system on a virtual disk, and upload that disk",
                "请先把系统安装到虚拟磁盘，再上传该磁盘的镜像"
            ),
            Packed(with) => words!(
                "unpack it and check what is inside: {with} {file}",
                "请先解包，再检查其中的磁盘镜像：{with} {file}"
            ),
            Boot => words!(
                "upload an image of the whole disk, not a file of its boot partition",
                "请上传整块磁盘的镜像，而不是引导分区中的单个文件"
            ),
            Locked => words!("decrypt it first; the cloud has no key", "请先解密再上传，云平台没有密钥"),
            Description => words!(
                "upload the disk itself, in one file: qemu-img convert -O qcow2 DISK new.qcow2",
                "请上传磁盘本身（单个文件）：qemu-img convert -O qcow2 DISK new.qcow2"
            ),
            Page => words!(
                "download the image again: this is the answer of a server that did not give it (is the link still valid?)",
                "请重新下载镜像：这是服务器拒绝请求时返回的内容（链接是否已过期？）"
            ),
            Other => words!("name the image of the disk instead", "请改为指定磁盘镜像文件"),
        }
    }

    /// The bytes that say so. Of an error message its code and its words; never what else a server wrote into it.
    #[must_use]
    pub fn evidence(&self, probe: &Probe<'_>) -> Evidence {
        let evidence =
            Evidence::new(format!("{} by its first bytes", self.en)).byte(crate::num::wide(self.at));
        match self.class {
            Page => {
                let said: Vec<&[u8]> = [b"Code".as_slice(), b"Message", b"title"]
                    .iter()
                    .filter_map(|name| element(probe.head, name))
                    .collect();
                if said.is_empty() {
                    evidence
                } else {
                    Evidence { excerpt: Some(excerpt(&said.join(&b": "[..]))), ..evidence }
                }
            }
            _ => evidence,
        }
    }
}

/// The text of the first XML or HTML element of that name.
fn element<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let text = text.get(..TEXT_HEAD).unwrap_or(text);
    let open = [b"<", name, b">"].concat();
    let from = find(text, &open)?.checked_add(open.len())?;
    let rest = text.get(from..)?;
    rest.get(..find(rest, &[b"</", name].concat())?)
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len().max(1)).position(|window| window == wanted)
}

/// Why an image could not be opened, as a person would say it after a look at the file; `None` where the trouble is not
/// the image's: a server, this machine, the command line.
#[must_use]
pub fn of_error(error: &Error, file: Option<&dyn BlockSource>, name: &str) -> Option<Seen> {
    let file = file?;
    let bytes = ProbeBytes::read(file, name).ok()?;
    let probe = bytes.view();
    let len = probe.len;
    let shown = escape(name.rsplit('/').next().unwrap_or(name).as_bytes()).to_string();
    let size = Evidence::new(format!("the file has {len} bytes"));
    if len == 0 {
        return Some(
            Seen::new(words!("The file is empty.", "文件为空（0 字节）。"))
                .fix(words!("make or upload the image again", "请重新制作或上传镜像")),
        );
    }
    let kind = what_is(&probe);
    let seen = match error.kind() {
        ErrorKind::Encrypted => Seen::new(words!(
            "The image is encrypted: what is in it cannot be judged, and a cloud cannot read it either.",
            "镜像已加密：无法检查其内容，云平台同样无法读取。"
        ))
        .fix(words!(
            "decrypt it before the import; with --key the content can be checked here",
            "请在导入前解密；使用 --key 提供密钥后可在此检查内容"
        )),
        ErrorKind::NotFound | ErrorKind::ExternalRef if kind.is_none() => Seen::new(words!(
            "The image is not complete in itself: it needs another file, which is not here or may not be opened.",
            "镜像不完整：它依赖另一个文件，而该文件不在此处或不允许打开。"
        ))
        .fix(words!(
            "where all its files are, make one of them: qemu-img convert -O qcow2 {shown} whole.qcow2",
            "请在文件齐全的位置合并为单个镜像：qemu-img convert -O qcow2 {shown} whole.qcow2"
        )),
        ErrorKind::Corrupt | ErrorKind::OutOfRange | ErrorKind::Limit
            if kind.is_none_or(|kind| kind.class == Locked) =>
        {
            Seen::new(words!(
                "The image is damaged, or was cut off on its way.",
                "镜像已损坏，或在传输中被截断。"
            ))
            .fix(words!(
                "compare size ({len} bytes) and checksum with the original, and copy it again",
                "请与原文件比较大小（此处为 {len} 字节）和校验和，然后重新传输"
            ))
        }
        ErrorKind::NotAnImage
        | ErrorKind::Unsupported
        | ErrorKind::Ambiguous
        | ErrorKind::Corrupt
        | ErrorKind::OutOfRange
        | ErrorKind::Limit
        | ErrorKind::NotFound
        | ErrorKind::ExternalRef => {
            let kind = kind?;
            let (en, zh) = (kind.en, kind.zh);
            let seen = match kind.class {
                // The trouble may lie in what is packed in it.
                Packed(_) => Seen::new(words!(
                    "This is {en}, and no disk in it could be opened.",
                    "这是 {zh}，无法从中打开磁盘。"
                )),
                _ => Seen::new(words!("This is {en}, not the image of a disk.", "这是 {zh}，不是磁盘镜像。")),
            };
            return Some(seen.at(kind.evidence(&probe)).at(size).fix(kind.fix(&shown)));
        }
        _ => return None,
    };
    Some(seen.at(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(head: &[u8]) -> Option<&'static str> {
        let tail = &head[head.len().saturating_sub(4096)..];
        what_is(&Probe { head, tail, len: crate::num::wide(head.len()), name: "x" }).map(|kind| kind.en)
    }

    fn page(text: &str) -> (Kind, Evidence) {
        let head = text.as_bytes();
        let probe = Probe { head, tail: head, len: crate::num::wide(head.len()), name: "x" };
        let kind = what_is(&probe).unwrap();
        (kind, kind.evidence(&probe))
    }

    #[test]
    fn an_answer_of_an_object_store_is_named_with_its_code() {
        let (kind, evidence) = page(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code><Message>Request has \
             expired</Message><SignatureProvided>geheim</SignatureProvided></Error>",
        );
        assert_eq!((kind.en, kind.class), ("an error message of an object store", Page));
        assert_eq!(evidence.excerpt.unwrap().to_string(), "AccessDenied: Request has expired");
    }

    #[test]
    fn a_page_is_named_with_its_title() {
        let (kind, evidence) = page("<!DOCTYPE html><html><head><title>Sign in</title></head></html>");
        assert_eq!(kind.en, "an HTML page");
        assert_eq!(evidence.excerpt.unwrap().to_string(), "Sign in");
    }

    #[test]
    fn disks_are_not_named() {
        let mut disk = vec![0; 70_000];
        assert_eq!(named(&disk), None);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[..4].copy_from_slice(&[0xeb, 0x63, 0x90, 0x10]);
        assert_eq!(named(&disk), None);
        // Boot code by which a packer's magic would be met by chance.
        disk[..3].copy_from_slice(b"BZh");
        assert_eq!(named(&disk), None);
        assert_eq!(named(b""), None);
    }

    #[test]
    fn text_is_text_to_its_end() {
        assert_eq!(named("gr\u{fc}\u{df}e\n".as_bytes()), Some("a text file"));
        assert_eq!(named(b"hello\0\0"), None);
        assert_eq!(named(b"  {\"error\": 1}"), Some("a JSON document"));
    }
}
