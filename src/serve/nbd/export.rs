//! An export: a name under which clients find a source, and what the protocol says about it before the first read.

use crate::block::BlockSource;
use crate::error::{Error, ErrorKind, Result};
use crate::nbd_protocol::{Style, transmission_flag as flag};
use crate::text::escape;
use std::sync::Arc;

/// One thing that is served.
#[derive(Clone, Debug)]
pub struct Export {
    /// What clients ask for. Empty is the default export.
    pub name: String,
    /// What it is, for people: `partition 2, ext4 'root'`.
    pub about: String,
    /// Its bytes.
    pub source: Arc<dyn BlockSource>,
}

/// The largest request that is answered, in bytes: the limit that the specification lets clients assume, and qemu's.
pub(super) const MAX_REQUEST: u32 = 32 << 20;

/// Seats of a server from which on clients are told that they may connect several times: libnbd's open four connections
/// then, and give up if one is refused.
const SEATS_FOR_SEVERAL: usize = 8;

impl Export {
    /// What a client may do. `SEND_DF` is meaningful, and allowed, only where replies come in chunks; a choice of contexts
    /// only with extended headers, and where there are any to choose from. Several connections are proposed only where
    /// there are `seats` for a client that takes it up.
    pub(super) fn flags(&self, style: Style, contexts: bool, seats: usize) -> u16 {
        let mut flags = flag::HAS_FLAGS | flag::READ_ONLY | flag::SEND_CACHE;
        if seats >= SEATS_FOR_SEVERAL {
            // Nothing is ever written, so every connection sees the same bytes.
            flags |= flag::CAN_MULTI_CONN;
        }
        if style.has_chunks() {
            flags |= flag::SEND_DF;
        }
        if style == Style::Extended && contexts {
            flags |= flag::BLOCK_STATUS_PAYLOAD;
        }
        flags
    }

    /// Minimum, preferred and maximum size of a request. Any byte may be read; whole clusters are cheapest.
    pub(super) fn block_sizes(&self) -> [u32; 3] {
        let preferred = self.source.preferred_size().clamp(4096, 2 << 20);
        [1, preferred.next_power_of_two().min(2 << 20), MAX_REQUEST]
    }
}

/// Everything one server offers. No two exports have one name.
#[derive(Debug)]
pub(super) struct Exports(Vec<Arc<Export>>);

impl Exports {
    pub(super) fn new(exports: Vec<Export>) -> Result<Self> {
        let mut all: Vec<Arc<Export>> = Vec::new();
        for export in exports {
            if all.iter().any(|other| other.name == export.name) {
                let name = escape(export.name.as_bytes());
                return Err(Error::new(ErrorKind::Usage, format!("two exports are called '{name}'")));
            }
            all.push(Arc::new(export));
        }
        Ok(Self(all))
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&Arc<Export>> {
        self.0.iter().find(|export| export.name.as_bytes() == name)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Export>> {
        self.0.iter()
    }
}
