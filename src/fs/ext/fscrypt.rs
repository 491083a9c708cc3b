//! Names in encrypted directories. Without the key the kernel shows each name as text made of its cipher, and so do we:
//! such files can be listed and told apart; their content and their link targets are refused.
//!
//! The text is unpadded base64url of: the name's directory hash (8 bytes), the first 149 bytes of the cipher, and the
//! SHA-256 of what is left, if something is (`fscrypt_fname_disk_to_usr` in the kernel's `fs/crypto/fname.c`).

use super::Ext;
use super::features::Set;
use super::inode::{Inode, flag};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Bytes of the cipher that are shown as they are.
const SHOWN: usize = 149;

impl Ext {
    /// A name of directory `dir` as it is to be shown: as stored, unless the directory is encrypted.
    pub(super) fn shown_name<'a>(&self, dir: &Inode, stored: &'a [u8]) -> Cow<'a, [u8]> {
        if !dir.has(flag::ENCRYPT) || matches!(stored, b"." | b"..") {
            return Cow::Borrowed(stored);
        }
        // Only directories that the kernel lists in hash order have hashes in their names.
        let one_block = dir.size.checked_div(self.sb.block_size) == Some(1) || dir.has(flag::INLINE_DATA);
        let hashed = self.features().has(Set::DIR_INDEX) && (dir.has(flag::INDEX) || one_block);
        let hash = if hashed { self.directory_hash(dir, stored) } else { (0, 0) };
        Cow::Owned(encode(hash, stored))
    }
}

fn encode((major, minor): (u32, u32), cipher: &[u8]) -> Vec<u8> {
    let mut bytes = [major.to_le_bytes(), minor.to_le_bytes()].concat();
    let (shown, rest) = cipher.split_at(SHOWN.min(cipher.len()));
    bytes.extend_from_slice(shown);
    if !rest.is_empty() {
        bytes.extend_from_slice(&Sha256::digest(rest));
    }
    URL_SAFE_NO_PAD.encode(bytes).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn the_longest_name_still_fits_where_names_go() {
        assert_eq!(encode((1, 2), &[7; 255]).len(), 252);
        assert_eq!(encode((0, 0), &[0; 16]), b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    }
}
