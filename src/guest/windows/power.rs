//! Is the system asleep? A hibernated Windows continues where it was, on the machine where it was; what its disk holds is
//! older than what it knows, and another machine cannot wake it.
//!
//! ```text
//!   \hiberfil.sys                                    begins with `hibr` while it is asleep, `wake` or zeros else
//!   HKLM\SYSTEM\CurrentControlSet\Control
//!     Session Manager\Power                          HiberbootEnabled: shutting down sleeps too ("fast startup")
//!     Power                                          HibernateEnabled
//! ```

use super::keys::Keys;
use crate::error::{Error, Result};
use crate::guest::{Evidence, Fact, Guest};
use crate::text::escape;

/// What stands at the start of the file.
const STATES: &[(&[u8; 4], Sleep)] = &[
    (b"hibr", Sleep::Asleep),
    (b"HIBR", Sleep::Asleep),
    (b"rstr", Sleep::Waking),
    (b"RSTR", Sleep::Waking),
    (b"wake", Sleep::Awake),
    (b"WAKE", Sleep::Awake),
    (b"\0\0\0\0", Sleep::Awake),
];

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// Nothing: it is not there, or was used up.
    Awake,
    /// There is a system in it that waits to be continued.
    Asleep,
    /// It was being continued when the disk was copied.
    Waking,
}

/// Sleep, and whether shutting down is sleeping.
#[derive(Clone, Debug)]
pub struct Power {
    /// What the file says.
    pub sleep: Sleep,
    /// The file.
    pub file: Option<Evidence>,
    /// Where fast startup is switched on, for the next time that it is shut down.
    pub fast_startup: Option<Evidence>,
}

impl Fact for Power {
    fn read(guest: &Guest) -> Result<Self> {
        let keys = Keys::of(guest)?;
        let (tree, path) = (keys.tree(), b"/hiberfil.sys");
        let (mut sleep, mut file) = (Sleep::Awake, None);
        if let Some(node) = tree.find(path)? {
            let mut head = [0; 4];
            let read = tree.read_at(node, &mut head, 0).map_err(|error| error.context("/hiberfil.sys"))?;
            let known = STATES.iter().find(|(mark, _)| **mark == head);
            let begins = format!("begins with '{}'", escape(&head));
            sleep = match known {
                _ if read < head.len() => Sleep::Awake,
                Some((_, sleep)) => *sleep,
                None => return Err(Error::unsupported(format!("a hiberfil.sys that {begins}"))),
            };
            file = Some(Evidence::new(begins).on(tree.volume(node)).path(path));
        }
        let session = keys.current("Control\\Session Manager\\Power")?;
        let number = session.as_ref().map(|key| key.number("HiberbootEnabled")).transpose()?.flatten();
        let fast_startup = match (session, number) {
            (Some(key), Some(number)) if number != 0 => Some(key.says("HiberbootEnabled", number)),
            _ => None,
        };
        Ok(Self { sleep, file, fast_startup })
    }
}
