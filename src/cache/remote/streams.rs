//! Streams: the readers that go through a source in order, found among all reads, and how far ahead of each to fetch.

use super::{BLOCK, Use};
use crate::num::round_up;
use std::ops::Range;

/// A reader must have read this much in a row before anything is read ahead of it.
const SEQUENTIAL: u64 = 128 << 10;
/// Reading ahead so far, it goes up in larger steps.
const SURE: u64 = 2 << 20;
/// Readers told apart by the read-ahead.
const STREAMS: usize = 16;

/// One reader that goes through the source in order.
struct Stream {
    start: u64,
    next: u64,
    /// Up to where was read ahead.
    ahead: u64,
    window: u64,
    /// The window doubles when the reader gets here.
    grow: u64,
}

/// The latest readers, the most recent at the end.
#[derive(Default)]
pub(super) struct Streams(Vec<Stream>);

impl Streams {
    /// Notes a read: is it one of many in a row, and what should be read ahead because of it, if anything, in requests of
    /// how many bytes? `request` tells that from how far is read ahead, which is at most `most`.
    pub(super) fn note(
        &mut self,
        read: &Range<u64>,
        most: u64,
        request: impl Fn(u64) -> u64,
    ) -> (Use, Option<(Range<u64>, u64)>) {
        // Readers with several threads (FUSE, nbdcopy) arrive out of order: by a read or two, or, when much is read ahead
        // of them, somewhere in that.
        let loose = SEQUENTIAL.max(read.end.saturating_sub(read.start).saturating_mul(2));
        let follows = |stream: &Stream| {
            let behind = loose.max(stream.window);
            read.start <= stream.next.saturating_add(loose).max(stream.ahead)
                && read.end >= stream.next.saturating_sub(behind).max(stream.start)
        };
        let Some(at) = self.0.iter().rposition(follows) else {
            if self.0.len() >= STREAMS {
                self.0.remove(0);
            }
            let (start, next) = (read.start, read.end);
            // Who reads much at once wants much.
            let window = BLOCK.max(next.saturating_sub(start));
            self.0.push(Stream { start, next, ahead: next, window, grow: next });
            return (Use::Again, None);
        };
        let mut stream = self.0.remove(at);
        stream.next = stream.next.max(read.end);
        // The block that is being read is the reader's own affair.
        stream.ahead = stream.ahead.max(round_up(stream.next, BLOCK).unwrap_or(stream.next));
        let (mut purpose, mut wanted) = (Use::Again, None);
        if stream.next.saturating_sub(stream.start) >= SEQUENTIAL {
            purpose = Use::Once;
            let grows = stream.next >= stream.grow && stream.window < most;
            if grows {
                // Each time costs a round trip, and who has read so much in a row will most likely go on.
                let times = if stream.window < SURE { 2 } else { 4 };
                stream.window = stream.window.saturating_mul(times);
                stream.grow = stream.next.saturating_add(stream.window / 2);
            }
            stream.window = stream.window.min(most);
            let end = stream.next.saturating_add(stream.window);
            let due = end.saturating_sub(stream.ahead);
            let request = request(stream.window);
            // Between the doublings, whole requests only: many small ones cost as many round trips.
            let least = if stream.window < most { request } else { request.min(stream.window / 2) };
            if due > 0 && (grows || due >= least) {
                wanted = Some((stream.ahead..end, request));
                stream.ahead = end;
            }
        }
        self.0.push(stream);
        (purpose, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_readers_who_share_the_work_are_read_ahead_of_as_one() {
        let mut streams = Streams::default();
        let mut ahead = 0;
        // What nbdcopy does: four connections, each a piece of 256 KiB behind the other, in no order within a round.
        for round in 0..64 {
            for piece in [0, 2, 3, 1] {
                let at = (round * 4 + piece) * BLOCK;
                let (_, wanted) = streams.note(&(at..at + BLOCK), 64 << 20, |_| 4 * BLOCK);
                ahead = wanted.map_or(ahead, |(range, _)| range.end.max(ahead));
            }
        }
        assert_eq!(streams.0.len(), 1, "they were taken for several");
        assert!(ahead > (64 * 4 + 64) * BLOCK, "{} MiB ahead", (ahead >> 20).saturating_sub(64));
    }
}
