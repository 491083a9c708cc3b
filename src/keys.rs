//! Keys: what opens a locked image or volume, as the user gave it. Never shown, never logged.

use std::fmt;

/// Bytes that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps `bytes`.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
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

/// All keys that were given, each for a volume (`disk`, `p2`, `vg0/root`) or, as `*`, for whatever is locked.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<(String, Secret)>);

impl Keys {
    /// Adds a key for `volume`.
    pub fn add(&mut self, volume: impl Into<String>, secret: Secret) {
        self.0.push((volume.into(), secret));
    }

    /// The keys to try on `volume`, in the order they were given.
    pub fn of<'a>(&'a self, volume: &'a str) -> impl Iterator<Item = &'a Secret> {
        self.0.iter().filter(move |(name, _)| name == volume || name == "*").map(|(_, secret)| secret)
    }

    /// Was none given?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
        let of = |volume| keys.of(volume).map(Secret::bytes).collect::<Vec<_>>();
        assert_eq!((of("p2"), of("p1")), (vec![b"two".as_slice(), b"any"], vec![b"any".as_slice()]));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new(b"abc".to_vec())), "Secret(..)");
    }
}
