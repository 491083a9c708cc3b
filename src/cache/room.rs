//! Room: how many bytes of units may be being unpacked at a time, by all readers of the process together.
//!
//! The cache counts a unit when it is there. Until then it is its reader's, packed and unpacked, and readers are as many
//! as clients like to be: a unit may be 64 MiB long, and a hundred clients that each read a sector of another one would
//! take gigabytes. So who unpacks a large unit takes room for it first, and waits in line if there is none.
//!
//! # Why nobody waits for ever
//!
//! Who waits for room may have others wait for it: it has claimed its unit in the cache, it may be in the midst of
//! unpacking a unit of the layer above, and then it holds room for that one too. It may hold locks of that layer. With
//! a plain semaphore they could all wait in a circle: of an xz file in a gzip file, those who unpack xz blocks fill the
//! room and wait for one gzip part, and who has claimed that part waits for room.
//!
//! Therefore each unit has a *rank*, its layer's number ([`super::Cache::new_owner`]). A layer is made after those that it
//! reads from, so whoever works on a unit needs nothing but units, and locks, of lower ranks. There are two ways in:
//!
//! 1. The first in line goes in when its unit fits, or when nobody is in.
//! 2. Whoever has a lower rank than everyone who is in goes in at once, whether it fits or not.
//!
//! Suppose that some are in and none of them gets on. Take the one of the lowest rank. What it waits for is held by
//! somebody who works at a lower rank still, who perhaps waits for another in turn; ranks fall at each step, so this ends,
//! and it can only end with one who waits for room. Its rank is lower than that of everyone who is in: it goes in by the
//! second way. And if nobody is in, the first in line goes in.
//!
//! The second way goes over the bound, by one unit for each rank below the lowest that is in: of a packed file in a packed
//! file by one unit. Readers of one layer never go over it together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex};

/// Bytes in flight, packed and unpacked: one of the largest units if it did not shrink, or three of the blocks of 24 MiB
/// that xz makes. A decoder's window comes on top, and is no longer than the unit: all in all twice as much.
pub const MOST: u64 = 128 << 20;
/// A unit up to this length goes in without being counted: clusters and grains are unpacked by the hundred thousand, and
/// one for each reader is no more than the reader's own buffers.
const SMALL: u64 = 1 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Room {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of all who are in.
    taken: u64,
    /// How many are in, by rank.
    inside: BTreeMap<u64, usize>,
    /// Tickets of those who wait, the first in front.
    line: VecDeque<u64>,
    tickets: u64,
    /// The most that was ever taken.
    #[cfg(test)]
    highest: u64,
}

/// Room for one unit, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Taken<'a> {
    /// `None` for a unit that is not counted.
    room: Option<&'a Room>,
    rank: u64,
    bytes: u64,
}

impl Room {
    /// Room for a unit of the layer `rank`; waits until there is some.
    pub fn take(&self, rank: u64, bytes: u64) -> Taken<'_> {
        if bytes <= SMALL {
            return Taken { room: None, rank, bytes };
        }
        let mut state = super::lock(&self.state);
        if !(state.line.is_empty() && state.fits(bytes) || state.is_lowest(rank)) {
            let ticket = state.tickets;
            state.tickets = ticket.wrapping_add(1);
            state.line.push_back(ticket);
            while !(state.line.front() == Some(&ticket) && state.fits(bytes) || state.is_lowest(rank)) {
                state = self.bell.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            state.line.retain(|other| *other != ticket);
            // Whoever is the first now may fit too.
            self.bell.notify_all();
        }
        state.enter(rank, bytes);
        Taken { room: Some(self), rank, bytes }
    }

    /// The same for one who can do without: `None` if it would have to wait.
    pub fn try_take(&self, rank: u64, bytes: u64) -> Option<Taken<'_>> {
        if bytes <= SMALL {
            return Some(Taken { room: None, rank, bytes });
        }
        let mut state = super::lock(&self.state);
        (state.line.is_empty() && state.fits(bytes)).then(|| {
            state.enter(rank, bytes);
            Taken { room: Some(self), rank, bytes }
        })
    }

    /// Bytes that are taken, and the most that ever were.
    #[cfg(test)]
    pub(crate) fn gauge(&self) -> (u64, u64) {
        let state = super::lock(&self.state);
        (state.taken, state.highest)
    }
}

impl State {
    /// A unit that is larger than all the room is let in alone.
    fn fits(&self, bytes: u64) -> bool {
        self.inside.is_empty() || self.taken.saturating_add(bytes) <= MOST
    }

    /// Is everyone who is in of a higher rank?
    fn is_lowest(&self, rank: u64) -> bool {
        self.inside.first_key_value().is_some_and(|(lowest, _)| rank < *lowest)
    }

    fn enter(&mut self, rank: u64, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
        #[cfg(test)]
        {
            self.highest = self.highest.max(self.taken);
        }
        let inside = self.inside.entry(rank).or_default();
        *inside = inside.saturating_add(1);
    }

    fn leave(&mut self, rank: u64, bytes: u64) {
        self.taken = self.taken.saturating_sub(bytes);
        if let Some(inside) = self.inside.get_mut(&rank) {
            *inside = inside.saturating_sub(1);
            if *inside == 0 {
                self.inside.remove(&rank);
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(room) = self.room {
            let mut state = super::lock(&room.state);
            state.leave(self.rank, self.bytes);
            if !state.line.is_empty() {
                room.bell.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u64 = MOST / 2;

    #[test]
    fn room_is_given_until_there_is_none_and_again_when_it_comes_back() {
        let room = Room::default();
        let (first, second) = (room.take(5, HALF), room.take(5, HALF));
        assert!(room.try_take(5, SMALL.saturating_add(1)).is_none());
        drop(first);
        let third = room.try_take(5, HALF);
        assert!(third.is_some());
        drop((second, third));
        let state = room.state.lock().unwrap();
        assert_eq!((state.taken, state.inside.len()), (0, 0));
    }

    #[test]
    fn a_small_unit_is_not_counted() {
        let room = Room::default();
        let _all = room.take(5, MOST);
        assert!(room.try_take(5, SMALL).is_some());
        drop(room.take(5, SMALL));
        assert_eq!(room.state.lock().unwrap().taken, MOST);
    }

    #[test]
    fn a_unit_larger_than_the_room_goes_in_alone() {
        let room = Room::default();
        let large = room.take(5, MOST.saturating_add(HALF));
        assert!(room.try_take(5, HALF).is_none());
        drop(large);
        let _small = room.take(5, HALF);
        assert!(room.try_take(5, MOST).is_none());
    }

    #[test]
    fn a_lower_layer_goes_in_though_there_is_no_room() {
        let room = Room::default();
        let _above = (room.take(5, HALF), room.take(5, HALF));
        let below = room.take(4, HALF);
        assert_eq!(room.state.lock().unwrap().taken, MOST.saturating_add(HALF));
        assert!(!room.state.lock().unwrap().is_lowest(4), "one more of its rank has to wait");
        drop(below);
    }

    #[test]
    fn a_large_unit_is_not_passed_by_smaller_ones_that_come_later() {
        let room = Room::default();
        let half = room.take(5, HALF);
        std::thread::scope(|scope| {
            let large = scope.spawn(|| drop(room.take(5, MOST)));
            while room.state.lock().unwrap().line.is_empty() {
                std::thread::yield_now();
            }
            assert!(room.try_take(5, HALF).is_none());
            drop(half);
            large.join().unwrap();
        });
        assert!(room.try_take(5, MOST).is_some());
    }
}
