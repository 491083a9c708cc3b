//! Berkeley DB's hash access method, the `Packages` of rpm before 4.16: buckets of pages, in each pairs of key and header;
//! what is longer than a page lies in a chain of overflow pages. Written in the byte order of the machine that made it.
//! Followed: `lib/backend/bdb_ro.c` of rpm and "dbinc/db_page.h" of Berkeley DB 5.3.

use super::LAYER;
use super::blob::Blob;
use super::store::Store;
use crate::error::{At, Error, Result};
use crate::num::wide;
use crate::ondisk::{get_be16, get_be32, get_le16, get_le32};

/// Where the magic number stands in the first page.
const MAGIC_AT: usize = 12;
const MAGIC: u32 = 0x0006_1561;
/// Bytes of the first page that say something to us.
const META: usize = 224;
/// Bytes before the offsets of a page's items.
const PAGE_HEADER: usize = 26;

/// Kinds of pages.
const UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH_META: u8 = 8;
const HASH: u8 = 13;

/// Kinds of items on a page.
const ON_PAGE: u8 = 1;
const OFF_PAGE: u8 = 3;

/// Does a first page begin a hash database, in one of the two byte orders?
pub(super) fn is_hash(start: &[u8]) -> bool {
    Order::of(start).is_some()
}

/// The order of bytes in numbers.
#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn of(start: &[u8]) -> Option<Self> {
        match (get_le32(start, MAGIC_AT), get_be32(start, MAGIC_AT)) {
            (Some(MAGIC), _) => Some(Self::Little),
            (_, Some(MAGIC)) => Some(Self::Big),
            _ => None,
        }
    }

    fn half(self, bytes: &[u8], at: usize) -> u16 {
        let read = match self {
            Self::Little => get_le16,
            Self::Big => get_be16,
        };
        read(bytes, at).unwrap_or(0)
    }

    fn word(self, bytes: &[u8], at: usize) -> u32 {
        let read = match self {
            Self::Little => get_le32,
            Self::Big => get_be32,
        };
        read(bytes, at).unwrap_or(0)
    }
}

/// An open database.
struct Hash<'a> {
    store: &'a Store<'a>,
    order: Order,
    page_size: u32,
    last_page: u32,
}

/// A page that was read, with its number.
struct Page {
    number: u32,
    bytes: Vec<u8>,
}

impl Page {
    fn kind(&self) -> u8 {
        self.bytes.get(25).copied().unwrap_or(0)
    }

    fn corrupt(&self, why: impl Into<String>) -> Error {
        Error::corrupt(At::new(LAYER, "page").index(u64::from(self.number))).because(why)
    }
}

/// Shows every header.
///
/// # Errors
/// When the database cannot be read or is damaged; what `sink` fails with.
pub(super) fn each(store: &Store<'_>, sink: &mut dyn FnMut(&mut Blob<'_>) -> Result<()>) -> Result<()> {
    let at = || At::new(LAYER, "Berkeley DB meta page").byte(0);
    let meta = store.read(0, META, "Berkeley DB meta page")?;
    let Some(order) = Order::of(&meta) else {
        return Err(Error::corrupt(at()).because("it has no magic number of a hash"));
    };
    let word = |at| order.word(&meta, at);
    let (version, page_size, last_page, buckets) = (word(16), word(20), word(32), word(72));
    if !(8..=10).contains(&version) {
        return Err(Error::unsupported(format!("Berkeley DB hash of version {version}")).at(at()));
    }
    if meta.get(24) != Some(&0) {
        return Err(Error::new(crate::error::ErrorKind::Encrypted, "an encrypted Berkeley DB").at(at()));
    }
    if !page_size.is_power_of_two() || !(512..=65_536).contains(&page_size) {
        return Err(Error::corrupt(at()).because(format!("pages of {page_size} bytes")));
    }
    let pages = store.size().div_euclid(u64::from(page_size));
    if u64::from(last_page) >= pages || buckets > last_page {
        let why = format!("page {last_page} is the last and {buckets} the last bucket, of {pages} pages");
        return Err(Error::corrupt(at()).because(why));
    }
    let hash = Hash { store, order, page_size, last_page };
    for bucket in 0..=buckets {
        // A bucket's first page: buckets come in generations that double their number, and `spares` says how many
        // other pages were taken before each generation.
        let generation = u32::BITS.saturating_sub(bucket.leading_zeros());
        let spare = word(usize::try_from(generation.saturating_mul(4).saturating_add(96)).unwrap_or(META));
        let mut next = bucket.wrapping_add(spare);
        let mut seen = 0_u32;
        while next != 0 {
            seen = seen.saturating_add(1);
            let page = hash.page(next)?;
            if seen > last_page {
                return Err(page.corrupt("the pages of its bucket go round in a circle"));
            }
            if !matches!(page.kind(), UNSORTED | HASH | HASH_META) {
                return Err(page.corrupt(format!("kind {} in a bucket", page.kind())));
            }
            hash.pairs(&page, sink)?;
            next = order.word(&page.bytes, 16);
        }
    }
    Ok(())
}

impl Hash<'_> {
    fn page(&self, number: u32) -> Result<Page> {
        let at = At::new(LAYER, "page").index(u64::from(number));
        if number == 0 || number > self.last_page {
            return Err(Error::corrupt(at).because(format!("page {} is the last", self.last_page)));
        }
        let offset = u64::from(number).saturating_mul(u64::from(self.page_size));
        let bytes = self.store.read(offset, crate::num::narrow(self.page_size.into()), "Berkeley DB page")?;
        let says = self.order.word(&bytes, 8);
        if says != number {
            return Err(Error::corrupt(at).because(format!("it says that it is page {says}")));
        }
        Ok(Page { number, bytes })
    }

    /// The headers of a page: items are pairs of key and value, stored from the page's end.
    fn pairs(&self, page: &Page, sink: &mut dyn FnMut(&mut Blob<'_>) -> Result<()>) -> Result<()> {
        let count = usize::from(self.order.half(&page.bytes, 20));
        let offset = |index: usize| {
            let at = index.checked_mul(2)?.checked_add(PAGE_HEADER)?;
            page.bytes.get(at..at.checked_add(2)?)?;
            Some(usize::from(self.order.half(&page.bytes, at)))
        };
        let item = |index: usize| {
            let end = match index.checked_sub(1) {
                Some(before) => offset(before)?,
                None => page.bytes.len(),
            };
            page.bytes.get(offset(index)?..end).filter(|item| !item.is_empty())
        };
        for pair in (0..count).step_by(2) {
            let (key, value) = (item(pair), item(pair.saturating_add(1)));
            let (Some(key), Some(value)) = (key, value) else {
                return Err(page.corrupt(format!("item {pair} of {count} does not lie in it")));
            };
            // The number of the package, in the machine's order; 0 is the record that counts them.
            if key.first() == Some(&ON_PAGE)
                && key.get(1..).is_some_and(|key| key.iter().all(|byte| *byte == 0))
            {
                continue;
            }
            self.value(page, value, sink)?;
        }
        Ok(())
    }

    fn value(
        &self,
        page: &Page,
        item: &[u8],
        sink: &mut dyn FnMut(&mut Blob<'_>) -> Result<()>,
    ) -> Result<()> {
        match (item.first(), item.get(1..)) {
            (Some(&ON_PAGE), Some(bytes)) => {
                sink(&mut Blob::new(wide(bytes.len()), bytes.to_vec(), Box::new(|| Ok(None))))
            }
            (Some(&OFF_PAGE), Some(_)) if item.len() == 12 => {
                let (mut next, len) = (self.order.word(item, 4), self.order.word(item, 8));
                let more = move || self.overflow(&mut next);
                sink(&mut Blob::new(u64::from(len), Vec::new(), Box::new(more)))
            }
            (kind, _) => Err(page.corrupt(format!("a value of kind {kind:?} with {} bytes", item.len()))),
        }
    }

    /// The bytes of one page of a chain, after which `next` is the one behind it.
    fn overflow(&self, next: &mut u32) -> Result<Option<Vec<u8>>> {
        if *next == 0 {
            return Ok(None);
        }
        let page = self.page(*next)?;
        if page.kind() != OVERFLOW {
            return Err(page.corrupt(format!("kind {} in a chain of overflow pages", page.kind())));
        }
        let used = usize::from(self.order.half(&page.bytes, 22));
        let used = PAGE_HEADER.checked_add(used).and_then(|end| page.bytes.get(PAGE_HEADER..end));
        let piece = used.ok_or_else(|| page.corrupt("it has more bytes than fit"))?.to_vec();
        *next = self.order.word(&page.bytes, 16);
        Ok(Some(piece))
    }
}
