//! Which segments hold content, which are free, and who may open the next.
//!
//! ```text
//! sequence   ... freed ......... head ............. last | free ...
//!                |<- reclaimed ->|<---- content ------>| |
//!                  until the head is durable           newest
//! ```
//! The log is a ring: `last + 1` may be opened while it does not meet `freed`. What is reclaimed is
//! freed once the log is durable beyond the record (or header) that says so, hence beyond all
//! copies as well. Two such moves are kept in flight, so that a steady stream of them cannot put off
//! the first.
//!
//! Of the free segments, [`FLOOR_PUBLISH`] are kept for what makes room, [`FLOOR_KEEP`] of them for
//! reclaim and the mount after an unclean stop. What reclaim has taken of its share, and will give back with
//! the segment it empties, does not count against others, but the [`LAST_TWO`] are never theirs.
//!
//! The last one is only opened in a way that it counts for nothing (`PROVISIONAL`) until it holds the move of
//! the head, which frees another. So one is always free after a loss of power, however many there are in a
//! row. That the copies of the oldest segment fit into it, and with them what was in doubt, is why each segment
//! leaves a little room at its end, why nothing but such copies is appended while it is the last, and why it,
//! and the one before it, are opened only when all before is durable.

use super::layout::Ring;
use super::types::Purpose;
use crate::units::Position;

/// New content is refused when so many segments are free.
pub(super) const FLOOR_PUBLISH: u32 = 5;
/// Acknowledgements are refused when so many are free.
pub(super) const FLOOR_KEEP: u32 = 3;
/// Only reclaim and mounts open these.
pub(super) const LAST_TWO: u32 = 2;
/// Most that reclaim takes without its counting against others.
const LENT_MAX: u32 = 2;

/// The head has moved once the log is durable up to there.
#[derive(Clone, Copy, Debug)]
struct Move {
    head: u32,
    at: Position,
}

/// The ring's occupancy.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) ring: Ring,
    /// Newest sequence in use.
    pub(super) last: u32,
    /// Oldest sequence with content.
    pub(super) head: u32,
    /// Oldest sequence that may not be erased.
    pub(super) freed: u32,
    /// Segments that cannot be used.
    pub(super) bad: u32,
    /// Segments that reclaim took of its share.
    lent: u32,
    moves: [Option<Move>; 2],
}

impl Space {
    pub(super) fn new(ring: Ring, last: u32, head: u32, freed: u32) -> Space {
        Space { ring, last, head, freed, bad: 0, lent: 0, moves: [None; 2] }
    }

    /// Segments that can be opened now.
    pub(super) fn free(&self) -> u32 {
        self.beyond(self.freed)
    }

    /// Segments that can be opened once everything is durable.
    pub(super) fn free_soon(&self) -> u32 {
        self.beyond(self.head)
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn beyond(&self, oldest: u32) -> u32 {
        let used = self.last.saturating_sub(oldest).saturating_add(1);
        self.ring.count().saturating_sub(used).saturating_sub(self.bad)
    }

    /// The sequence of the segment at this index, if it may still be read.
    pub(super) fn sequence(&self, index: u32) -> Option<u32> {
        let newest = self.ring.index(self.last);
        let back = match newest.checked_sub(index) {
            Some(back) => back,
            None => newest.checked_add(self.ring.count())?.checked_sub(index)?,
        };
        self.last.checked_sub(back).filter(|&sequence| sequence >= self.freed && index < self.ring.count())
    }

    /// The head is recorded at `at`: everything before it is free once that is durable.
    pub(super) fn moved(&mut self, at: Position) {
        let next = Some(Move { head: self.head, at });
        match &mut self.moves {
            [first @ None, _] => *first = next,
            [_, second] => *second = next,
        }
    }

    /// The log is durable up to there.
    pub(super) fn settle(&mut self, durable: Position) {
        while let [Some(first), second] = self.moves {
            if first.at > durable {
                break;
            }
            self.freed = self.freed.max(first.head);
            self.moves = [second, None];
            self.lent = 0;
        }
    }

    /// How many segments stay free for others.
    pub(super) fn floor(&self, purpose: Purpose) -> u32 {
        match purpose {
            Purpose::Publish => FLOOR_PUBLISH.saturating_sub(self.lent),
            Purpose::Keep => FLOOR_KEEP.saturating_sub(self.lent).max(LAST_TWO),
            Purpose::Reclaim => 0,
        }
    }

    /// A segment was opened for this.
    pub(super) fn opened(&mut self, purpose: Purpose) {
        if purpose == Purpose::Reclaim {
            self.lent = self.lent.saturating_add(1).min(LENT_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::Geometry;

    fn space(last: u32, head: u32) -> Space {
        let geometry = Geometry { segment_size: 4096, segment_count: 10, write_unit: 4 };
        Space::new(Ring::new(geometry).unwrap(), last, head, head)
    }

    #[test]
    fn segments_are_free_only_when_the_moved_head_is_durable() {
        let mut space = space(18, 10);
        assert_eq!((space.free(), space.free_soon()), (1, 1));
        space.head = 12;
        space.moved(Position::new(18, 100));
        for (head, offset) in [(13, 200), (14, 300)] {
            space.head = head;
            space.moved(Position::new(18, offset));
        }
        assert_eq!((space.free(), space.free_soon()), (1, 5));
        space.settle(Position::new(18, 99));
        assert_eq!(space.freed, 10);
        space.settle(Position::new(18, 250));
        assert_eq!(space.freed, 12);
        space.settle(Position::new(18, 300));
        assert_eq!(space.freed, 14);
    }

    #[test]
    fn an_index_names_the_newest_segment_there() {
        let space = space(23, 16);
        assert_eq!(space.sequence(3), Some(23));
        assert_eq!(space.sequence(6), Some(16));
        assert_eq!(space.sequence(5), None);
        assert_eq!(space.sequence(10), None);
    }
}
