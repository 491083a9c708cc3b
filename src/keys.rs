//! Keys: what opens a locked image or volume, as the user gave it. Never shown, never logged, overwritten when dropped.

use std::fmt;
use zeroize::Zeroizing;

/// Bytes that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Keeps `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// For the one who derives a key from it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A key, and what it is for.
#[derive(Clone, Debug)]
pub struct Key {
    /// A volume (`disk`, `p2`, `vg0/root`), or `*` for whatever is locked.
    pub volume: String,
    /// The key.
    pub secret: Secret,
    /// It came out of a file, where a text's last line ends with a newline that may not be meant.
    pub is_file: bool,
}

/// All keys that were given.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// Adds a key for `volume`, to be taken as it is.
    pub fn add(&mut self, volume: impl Into<String>, secret: Secret) {
        self.0.push(Key { volume: volume.into(), secret, is_file: false });
    }

    /// The keys to try on `volume`, in the order they were given. One that came out of a file is tried as it is, as
    /// `cryptsetup --key-file` and qemu's `secret` do, and then without a newline at its end.
    pub fn of<'a>(&'a self, volume: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let meant = move |key: &&Key| key.volume == volume || key.volume == "*";
        self.0.iter().filter(meant).flat_map(|key| {
            let whole = key.secret.bytes();
            let line = whole.strip_suffix(b"\n").filter(|_| key.is_file);
            std::iter::once(whole).chain(line)
        })
    }

    /// Those for the disk `id` of a machine with several, which its driver knows as `disk`: `disk2` and `*`.
    #[must_use]
    pub fn of_disk(&self, id: &str) -> Self {
        let meant = self.0.iter().filter(|key| key.volume == id || key.volume == "*");
        meant.map(|key| Key { volume: "*".to_owned(), ..key.clone() }).collect()
    }

    /// All of them, to hand them over.
    #[must_use]
    pub fn all(&self) -> &[Key] {
        &self.0
    }

    /// Was none given?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Key> for Keys {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_tried_where_it_was_meant_for() {
        let mut keys = Keys::default();
        keys.add("p2", Secret::new(b"two".to_vec()));
        keys.add("*", Secret::new(b"any".to_vec()));
        let of = |volume| keys.of(volume).collect::<Vec<_>>();
        assert_eq!((of("p2"), of("p1")), (vec![b"two".as_slice(), b"any"], vec![b"any".as_slice()]));
    }

    #[test]
    fn a_file_is_tried_with_and_without_its_newline() {
        let key = |is_file| Key { volume: "*".to_owned(), secret: Secret::new(b"a\n".to_vec()), is_file };
        let keys: Keys = [key(true), key(false)].into_iter().collect();
        assert_eq!(keys.of("disk").collect::<Vec<_>>(), [b"a\n".as_slice(), b"a", b"a\n"]);
    }

    #[test]
    fn a_disk_of_several_has_its_own_keys() {
        let mut keys = Keys::default();
        keys.add("disk2", Secret::new(b"two".to_vec()));
        keys.add("disk", Secret::new(b"one".to_vec()));
        keys.add("*", Secret::new(b"any".to_vec()));
        let second = keys.of_disk("disk2");
        assert_eq!(second.of("disk").collect::<Vec<_>>(), [b"two".as_slice(), b"any"]);
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new(b"abc".to_vec())), "Secret(..)");
    }
}
