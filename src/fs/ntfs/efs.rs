//! What EFS says of a file that it encrypted: the stream `$EFS` lists who can decrypt it, each with the file's key encrypted to a
//! certificate. Nothing of it decrypts; it tells a reader whose certificate to look for.
//!
//! ```text
//! $EFS        40 where the list of users begins   44 where the list of recovery agents begins
//! list        0 how many   4 fields, each:
//! field       0 its length   4 its credential at
//! credential  4 SID at   8 type, 3 = certificate   12 length of, 16 where: thumbprint header
//! thumbprint  0 thumbprint at   4 its length          (each "at" from the start of what it stands in)
//! ```
//! [MS-EFSR] 2.2.2.1 EFSRPC Metadata Version 1 and its key list, of which this is the form on disk.

use super::attribute::kind;
use super::file::File;
use super::volume::Volume;
use crate::error::{Error, ErrorKind};
use crate::ondisk::get_le32;

/// Longest `$EFS` that is looked at: `ntfs.sys` takes 256 KiB, a list of a few users fits in a tenth of this.
const MAX_LEN: u64 = 64 << 10;

const USERS: usize = 0x40;
const CERTIFICATE: u32 = 3;
/// SHA-1, as certificates are named by.
const THUMBPRINT: usize = 20;

/// Who can decrypt a file: the first of its users.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    /// As Windows writes it: `S-1-5-21-..`.
    sid: Option<String>,
    /// Of the certificate, in hexadecimal digits.
    thumbprint: Option<String>,
}

/// Why an encrypted file cannot be read: whose it is.
pub(super) fn refusal(volume: &Volume, file: &File) -> Error {
    let name: Vec<u16> = "$EFS".encode_utf16().collect();
    let stream = file.attributes.iter().find(|attribute| attribute.is(kind::LOGGED_UTILITY_STREAM, &name));
    // One that claims to be encrypted itself would be asked about again.
    let stream = stream.filter(|stream| !stream.is_encrypted());
    let stream = stream.and_then(|stream| volume.read_whole(file, stream, MAX_LEN).ok());
    let mut why = "is encrypted by EFS".to_owned();
    if let Some(User { sid, thumbprint }) = stream.as_deref().and_then(first_user) {
        why.extend(sid.map(|sid| format!(", for {sid}")));
        why.extend(thumbprint.map(|thumbprint| format!(", to the certificate {thumbprint}")));
    }
    Error::new(ErrorKind::Encrypted, why).at(file.at())
}

/// What stands at an offset that stands at `at` in `bytes`; 0 is none.
fn follow(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let offset = usize::try_from(get_le32(bytes, at)?).ok().filter(|offset| *offset != 0)?;
    bytes.get(offset..)
}

/// The first user in a `$EFS` stream, as far as it makes sense.
fn first_user(stream: &[u8]) -> Option<User> {
    let list = follow(stream, USERS)?;
    if get_le32(list, 0)? == 0 {
        return None;
    }
    let credential = follow(list.get(4..)?, 4)?;
    let sid = follow(credential, 4).and_then(sid);
    let thumbprint = (get_le32(credential, 8)? == CERTIFICATE).then(|| follow(credential, 0x10)).flatten();
    let thumbprint = thumbprint.and_then(|header| {
        let len = usize::try_from(get_le32(header, 4)?).ok().filter(|len| *len == THUMBPRINT)?;
        let bytes = follow(header, 0)?.get(..len)?;
        Some(bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
    });
    (sid.is_some() || thumbprint.is_some()).then_some(User { sid, thumbprint })
}

/// A security identifier as text: [MS-DTYP] 2.4.2.
fn sid(bytes: &[u8]) -> Option<String> {
    let [1, count @ 0..=15, authority @ ..] = bytes.first_chunk::<8>()? else { return None };
    let authority = authority.iter().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
    let numbers = bytes.get(8..)?.get(..usize::from(*count).checked_mul(4)?)?;
    let numbers: Vec<String> =
        numbers.chunks_exact(4).filter_map(|four| get_le32(four, 0)).map(|n| format!("-{n}")).collect();
    Some(format!("S-1-{authority}{}", numbers.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream with one user, laid out as the specification says.
    fn stream() -> Vec<u8> {
        let sid =
            [&[1, 2, 0, 0, 0, 0, 0, 5], 21_u32.to_le_bytes().as_slice(), &1001_u32.to_le_bytes()].concat();
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let thumbprint = [words(&[20, 20, 0, 0, 0]), (1..=20).collect()].concat();
        let credential = [words(&[84, 28, 3, 40, 44, 0, 0]), sid, thumbprint].concat();
        let field = [words(&[104, 20, 0, 0, 0]), credential].concat();
        let mut all = vec![0; 0x54];
        all[0x40] = 0x54;
        [all, words(&[1]), field].concat()
    }

    #[test]
    fn the_first_user_is_named() {
        let expected = User {
            sid: Some("S-1-5-21-1001".to_owned()),
            thumbprint: Some("0102030405060708090A0B0C0D0E0F1011121314".to_owned()),
        };
        assert_eq!(first_user(&stream()), Some(expected));
    }

    #[test]
    fn torn_streams_name_what_they_can() {
        let whole = stream();
        for len in 0..whole.len() {
            let user = first_user(&whole[..len]);
            assert!(user.is_none_or(|user| user.thumbprint.is_none()), "{len} bytes");
        }
        assert_eq!(first_user(&[0xff; 200]), None);
    }
}
