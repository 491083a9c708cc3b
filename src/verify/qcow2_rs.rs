//! qcow2-rs: another reader of QCOW2. It reads plain and zlib clusters of images without a backing file; of the rest it
//! says itself that it cannot, or we say it for it where it is known to look for files on its own or not to return.

use super::{DISK, DiskReader, Other, PATIENCE, Reader, Reads, Subject, theirs};
use crate::block::BlockSource;
use crate::confined::Confined;
use crate::error::{Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::stack::Stack;
use qcow2_rs::dev::{Qcow2Dev, Qcow2DevParams};
use qcow2_rs::error::{Qcow2Error, Qcow2Result};
use qcow2_rs::ops::Qcow2IoOps;
use qcow2_rs::utils::qcow2_alloc_dev;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The reader.
pub(super) const READER: Reader =
    Reader { name: "qcow2-rs", about: "the disk of a QCOW2 image", reads: Reads::Disk, subjects, open };

/// The block size it is told to read by, as a power of two: 512 bytes.
const BLOCK_BITS: u8 = 9;
const BLOCK: u64 = 512;

fn subjects(stack: &Stack) -> Vec<String> {
    // It opens the file itself, so it can only be asked about the file's own disk, not about a layer.
    let top = stack.image.layers.first().is_some_and(|top| Arc::ptr_eq(&top.disk, stack.disk()));
    // Encrypted clusters it hands out as they are stored.
    let encrypted = stack.image.facts.iter().any(|(name, _)| *name == "encryption");
    if stack.image.format == "qcow2" && top && !encrypted { vec![DISK.to_owned()] } else { Vec::new() }
}

/// The container file, as it wants to read it.
struct Container(Arc<dyn BlockSource>);

impl Qcow2IoOps for Container {
    async fn read_to(&self, offset: u64, buf: &mut [u8]) -> Qcow2Result<usize> {
        let len = wide(buf.len()).min(self.0.len().saturating_sub(offset));
        let Some(part) = buf.get_mut(..narrow(len)) else { return Ok(0) };
        self.0.read_at(part, offset).map_err(|error| Qcow2Error::from(error.chain()))?;
        Ok(part.len())
    }

    async fn write_from(&self, _offset: u64, _buf: &[u8]) -> Qcow2Result<()> {
        Err("imgmount never writes".into())
    }

    async fn fallocate(&self, _offset: u64, _len: usize, _flags: u32) -> Qcow2Result<()> {
        Err("imgmount never writes".into())
    }

    async fn fsync(&self, _offset: u64, _len: usize, _flags: u32) -> Qcow2Result<()> {
        Ok(())
    }
}

/// Runs a future whose reads are all done when they are asked for. One that waits all the same waits for ever.
fn now<T>(future: impl Future<Output = Qcow2Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.map_err(theirs),
        Poll::Pending => Err(Error::new(ErrorKind::Internal, "waits for something that never comes")),
    }
}

struct Disk {
    reader: Confined<Qcow2Dev<Container>>,
    len: u64,
}

fn open(subject: &Subject<'_>) -> Result<Other> {
    let container = Container(crate::source::open(subject.given, &subject.options.source_cx())?);
    let reader = Confined::new("qcow2-rs", move || {
        let params = Qcow2DevParams::new(BLOCK_BITS, None, None, true, false);
        let (device, backing) = now(qcow2_alloc_dev(Path::new("image"), container, &params))?;
        if backing.is_some() {
            return Err(theirs("the image has a backing file, which this reader would look for by itself"));
        }
        now(device.qcow2_prep_io())?;
        Ok(device)
    })?;
    let len = reader.run_within(PATIENCE, |device| Ok(device.info.virtual_size()))?;
    Ok(Other::Disk(Box::new(Disk { reader, len })))
}

impl DiskReader for Disk {
    fn size(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        // It reads whole blocks; the disk's last one may be cut.
        let tail = narrow(wide(len).checked_rem(BLOCK).unwrap_or(0));
        let whole = len.saturating_sub(tail);
        let mut bytes = if whole > 0 { self.read_blocks(offset, whole)? } else { Vec::new() };
        if tail > 0 {
            let last = self.read_blocks(offset.saturating_add(wide(whole)), narrow(BLOCK))?;
            bytes.extend_from_slice(last.get(..tail).unwrap_or_default());
        }
        Ok(bytes)
    }
}

impl Disk {
    fn read_blocks(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.reader.run_within(PATIENCE, move |device| {
            let mut buf = vec![0; len];
            // An error inside several clusters is dropped by it, and fewer bytes are said to have been read.
            match now(device.read_at(&mut buf, offset))? {
                read if read == len => Ok(buf),
                read => Err(theirs(format!("gives {read} bytes instead of {len}"))),
            }
        })
    }
}
