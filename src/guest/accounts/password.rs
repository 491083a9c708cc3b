//! A password as `/etc/shadow` stores it: whether there is one that somebody can type, how it is hashed, and until when it
//! counts. The hash itself is looked at and forgotten.

use std::time::{SystemTime, UNIX_EPOCH};

/// What the password field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password {
    /// The field is empty: no password is asked for.
    Empty,
    /// There is a hash, behind the mark of `passwd -l`.
    Locked,
    /// Nothing that any password could match: `*`, `!`, `!!`.
    Unusable,
    /// A hash.
    Hashed(Hash),
    /// `passwd` sends on to `shadow`, which has no line for the account.
    NoLine,
}

/// How a password is hashed (crypt(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// 13 characters, of which 8 of the password count.
    Des,
    /// `_`: DES, extended.
    ExtendedDes,
    /// `$1$`, `$md5`.
    Md5,
    /// `$sha1`.
    Sha1,
    /// `$3$`: of Windows.
    Nt,
    /// `$2$`, `$2a$`, `$2b$`, `$2y$`.
    Bcrypt,
    /// `$5$`.
    Sha256,
    /// `$6$`.
    Sha512,
    /// `$7$`.
    Scrypt,
    /// `$y$`.
    Yescrypt,
    /// `$gy$`.
    GostYescrypt,
    /// Of some other name.
    Other,
}

impl Hash {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Des => "DES",
            Self::ExtendedDes => "extended DES",
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Nt => "NT",
            Self::Bcrypt => "bcrypt",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
            Self::Scrypt => "scrypt",
            Self::Yescrypt => "yescrypt",
            Self::GostYescrypt => "gost-yescrypt",
            Self::Other => "an unknown method",
        }
    }

    /// Can whoever has the file guess the password fast?
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::Des | Self::ExtendedDes | Self::Md5 | Self::Sha1 | Self::Nt)
    }

    /// Of a field without marks; `None` when no password can have such a hash.
    fn of(field: &[u8]) -> Option<Self> {
        let is_hash =
            |text: &[u8]| text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(byte));
        if let Some(rest) = field.strip_prefix(b"$") {
            // `$id$`, `$md5,rounds=904$`: the method, then what it needs.
            let end = rest.iter().position(|byte| b"$,".contains(byte))?;
            let (id, after) = rest.split_at_checked(end)?;
            let is_clean = after.len() > 2
                && after.iter().all(|byte| byte.is_ascii_graphic() && !b"!*:;\\".contains(byte));
            let hash = match id {
                b"1" | b"md5" => Self::Md5,
                b"sha1" => Self::Sha1,
                b"3" => Self::Nt,
                b"2" | b"2a" | b"2b" | b"2x" | b"2y" => Self::Bcrypt,
                b"5" => Self::Sha256,
                b"6" => Self::Sha512,
                b"7" => Self::Scrypt,
                b"y" => Self::Yescrypt,
                b"gy" => Self::GostYescrypt,
                _ => Self::Other,
            };
            return is_clean.then_some(hash);
        }
        match field.strip_prefix(b"_") {
            Some(rest) => (rest.len() == 19 && is_hash(rest)).then_some(Self::ExtendedDes),
            None => (field.len() == 13 && is_hash(field)).then_some(Self::Des),
        }
    }
}

impl Password {
    /// Of a password field of `shadow`, or of `passwd` where that holds it.
    #[must_use]
    pub fn of(field: &[u8]) -> Self {
        if field.is_empty() {
            return Self::Empty;
        }
        let marks = field.iter().take_while(|byte| b"!*".contains(byte)).count();
        let rest = field.get(marks..).unwrap_or_default();
        match (Hash::of(rest), marks) {
            (Some(hash), 0) => Self::Hashed(hash),
            (Some(_), _) => Self::Locked,
            (None, _) => Self::Unusable,
        }
    }

    /// Is there something that somebody can type?
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Hashed(_))
    }
}

/// Days since 1970 and numbers of days, as `shadow` has them; nothing where it has nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aging {
    /// The password was changed; 0 wants it changed at the next login.
    pub changed: Option<u64>,
    /// After so many days it must be changed.
    pub max: Option<u64>,
    /// So many days after that it is accepted no more.
    pub inactive: Option<u64>,
    /// The account ends.
    pub expires: Option<u64>,
}

/// Whether an account may be used on a day, as far as `shadow` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It may.
    Valid,
    /// It may, once the password was changed.
    MustChange,
    /// The password is too old to be changed.
    PasswordExpired,
    /// The account ended.
    AccountExpired,
}

impl Aging {
    /// As `pam_unix` decides.
    #[must_use]
    pub fn on(self, day: u64) -> Validity {
        if self.expires.is_some_and(|end| day >= end) {
            return Validity::AccountExpired;
        }
        let Some(changed) = self.changed else { return Validity::Valid };
        if changed == 0 {
            return Validity::MustChange;
        }
        let age = day.saturating_sub(changed);
        let Some(max) = self.max.filter(|max| age > *max) else { return Validity::Valid };
        match self.inactive {
            Some(inactive) if age > max.saturating_add(inactive) => Validity::PasswordExpired,
            _ => Validity::MustChange,
        }
    }
}

/// Days since 1970, now.
#[must_use]
pub fn today() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() / (24 * 60 * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of `openssl passwd -1`, `-5`, `-6` and of crypt(5)'s examples.
    #[test]
    fn methods_are_known_by_their_marks() {
        let of = |field: &str| Password::of(field.as_bytes());
        assert_eq!(of("$1$abcdefgh$G//4keteveJp0qb8z2DxG/"), Password::Hashed(Hash::Md5));
        assert_eq!(
            of("$md5,rounds=904$iPPKEBnEkp3JV8uX$0L6m7rOFTVFn.SGqo2M9W1"),
            Password::Hashed(Hash::Md5)
        );
        assert_eq!(
            of("$6$saltsalt$bcXJ8qxwY5sQ4v8MTl.0B1jeZ0z0JlA9jjmbUoCJZ.1"),
            Password::Hashed(Hash::Sha512)
        );
        assert_eq!(
            of("$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC."),
            Password::Hashed(Hash::Yescrypt)
        );
        assert_eq!(of("$2b$05$salt"), Password::Hashed(Hash::Bcrypt));
        assert_eq!(of("ab1ytXGPQkpsE"), Password::Hashed(Hash::Des));
        assert_eq!(of("_J9..CCCCXBrJUJV154M"), Password::Hashed(Hash::ExtendedDes));
        assert_eq!(of("$9x$salt$hash"), Password::Hashed(Hash::Other));
    }

    #[test]
    fn what_no_password_matches_is_not_usable() {
        let of = |field: &str| Password::of(field.as_bytes());
        assert_eq!(
            [of("*"), of("!"), of("!!"), of("!*"), of("*LK*"), of("x"), of("$6$")],
            [Password::Unusable; 7]
        );
        assert_eq!([of("!$6$saltsalt$abcd"), of("!!$1$abcdefgh$abcd")], [Password::Locked; 2]);
        assert_eq!(of(""), Password::Empty);
    }

    #[test]
    fn days_decide_as_in_pam_unix() {
        let aging = Aging { changed: Some(100), max: Some(30), inactive: Some(7), expires: Some(500) };
        assert_eq!([aging.on(130), aging.on(50)], [Validity::Valid; 2]);
        assert_eq!([aging.on(131), aging.on(137)], [Validity::MustChange; 2]);
        assert_eq!([aging.on(138), aging.on(499)], [Validity::PasswordExpired; 2]);
        assert_eq!(aging.on(500), Validity::AccountExpired);
        assert_eq!(Aging { changed: Some(0), ..Aging::default() }.on(9), Validity::MustChange);
        assert_eq!(
            Aging { changed: Some(1), max: Some(99_999), ..Aging::default() }.on(20_000),
            Validity::Valid
        );
    }
}
