//! An export: a name under which clients find a source, and what the protocol says about it before the first read.

use crate::block::BlockSource;
use crate::error::{Error, ErrorKind, Result};
use crate::nbd_protocol::{Style, transmission_flag as flag};
use crate::text::escape;
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

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

/// Everything one server offers: the first exports from the start, all of them once they have been found. No two have
/// one name.
#[derive(Debug, Default)]
pub(super) struct Exports {
    first: Vec<Arc<Export>>,
    all: OnceLock<Vec<Arc<Export>>>,
    found: Notify,
}

impl Exports {
    /// Those that are there from the start.
    pub(super) fn new(first: Vec<Export>) -> Result<Self> {
        Ok(Self { first: apart(first, &[])?, ..Self::default() })
    }

    /// There are these and no others, in this order. One that was there before stays what it was. `tell` is called when
    /// that is sure, and before anybody acts on it.
    pub(super) fn complete(&self, all: Vec<Export>, tell: impl FnOnce() -> Result<()>) -> Result<()> {
        let all = apart(all, &self.first)?;
        tell()?;
        if self.all.set(all).is_err() {
            return Err(Error::new(ErrorKind::Internal, "the exports were found twice"));
        }
        self.found.notify_waiters();
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.all.get().is_some()
    }

    /// Waits until all of them are known.
    pub(super) async fn completed(&self) {
        let found = self.found.notified();
        tokio::pin!(found);
        // From here on nobody is overlooked, though the word may come before the look.
        found.as_mut().enable();
        if !self.is_complete() {
            found.await;
        }
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&Arc<Export>> {
        self.iter().find(|export| export.name.as_bytes() == name)
    }

    pub(super) fn len(&self) -> usize {
        self.known().len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Export>> {
        self.known().iter()
    }

    fn known(&self) -> &[Arc<Export>] {
        self.all.get().unwrap_or(&self.first)
    }
}

/// The same exports, each with a name of its own; one of a name that is in `known` is that one.
fn apart(exports: Vec<Export>, known: &[Arc<Export>]) -> Result<Vec<Arc<Export>>> {
    let mut all: Vec<Arc<Export>> = Vec::new();
    for export in exports {
        if all.iter().any(|other| other.name == export.name) {
            let name = escape(export.name.as_bytes());
            return Err(Error::new(ErrorKind::Usage, format!("two exports are called '{name}'")));
        }
        let same = known.iter().find(|known| known.name == export.name);
        all.push(same.map_or_else(|| Arc::new(export), Arc::clone));
    }
    Ok(all)
}
