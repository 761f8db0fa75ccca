//! Links: how the nouns chain slots of borrowed slices into lists and hash tables.
//!
//! A link names a slot of one slice; the slice is known from where the link stands. It is 32
//! bits wide in a gateway and 16 bits in the core alone, where memory is counted in kibibytes:
//! most of what a table costs is links. No link is the value 0, so a slice of zeroed slots is an
//! empty table: statics of a firmware need no image, and nothing is written at boot.
//!
//! The buckets of a hash table stand in the slots themselves, one a slot, so that a table is one
//! slice and its chains are one slot long on average when it is full.
//! ```text
//! slot 0   head ──────────► slot 2   next ──► slot 5   next ──► nothing
//! slot 1   head ──► nothing
//! ```
//! Invariants: a slot is in a table or vacant, never both, so `next` serves either chain; slots
//! beyond `fresh` were never used and are all zero.
//!
//! Limits: [`Link::SLOTS_MAX`] slots of a slice are used, the rest is not.

use crate::units::{At, Millis};

/// The integer behind a link.
#[cfg(feature = "gateway")]
pub(crate) type Raw = u32;
/// The integer behind a link.
#[cfg(not(feature = "gateway"))]
pub(crate) type Raw = u16;

/// The limit of a table that was reached; the text is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub &'static str);

/// Names a slot of a slice, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link(Raw);

impl Link {
    /// No slot.
    pub const NONE: Link = Link(0);
    /// Most slots of one slice.
    pub const SLOTS_MAX: usize = Raw::MAX as usize;

    /// The link to the slot at this index; none if it is beyond [`Link::SLOTS_MAX`].
    pub const fn to(index: usize) -> Link {
        if index < Link::SLOTS_MAX {
            Link(index as Raw + 1)
        } else {
            Link::NONE
        }
    }

    /// Index of the slot; for no link one that no slice has.
    pub const fn index(self) -> usize {
        (self.0 as usize).wrapping_sub(1)
    }

    /// It names no slot.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// It names a slot.
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// A slot that can be chained, to others of its table or to other vacant ones.
pub(crate) trait Slot {
    /// The slot after this one.
    fn next(&self) -> Link;
    /// Changes the slot after this one.
    fn set_next(&mut self, next: Link);
}

/// A slot that carries a bucket of its table as well.
pub(crate) trait Bucket: Slot {
    /// First slot of the bucket.
    fn head(&self) -> Link;
    /// Changes the first slot of the bucket.
    fn set_head(&mut self, head: Link);
}

/// Implements `Slot` over a field, and `Bucket` over a second one.
macro_rules! chained {
    ($slot:ty, $next:ident) => {
        impl $crate::model::link::Slot for $slot {
            fn next(&self) -> $crate::model::link::Link {
                self.$next
            }
            fn set_next(&mut self, next: $crate::model::link::Link) {
                self.$next = next;
            }
        }
    };
    ($slot:ty, $next:ident, $head:ident) => {
        $crate::model::link::chained!($slot, $next);
        impl $crate::model::link::Bucket for $slot {
            fn head(&self) -> $crate::model::link::Link {
                self.$head
            }
            fn set_head(&mut self, head: $crate::model::link::Link) {
                self.$head = head;
            }
        }
    };
}
pub(crate) use chained;

/// Which slots of a slice are vacant: a chain of those given back, and all from `fresh` on.
#[derive(Debug, Default)]
pub(crate) struct Vacancies {
    returned: Link,
    fresh: Raw,
    used: Raw,
}

impl Vacancies {
    /// Of a slice whose slots are all vacant.
    pub const fn new() -> Vacancies {
        Vacancies { returned: Link::NONE, fresh: 0, used: 0 }
    }

    /// Takes a vacant slot; its content is what it was given back with, or zero. None if all
    /// slots are taken.
    pub fn take<S: Slot>(&mut self, slots: &mut [S]) -> Link {
        let taken = if let Some(slot) = slots.get_mut(self.returned.index()) {
            core::mem::replace(&mut self.returned, slot.next())
        } else if (self.fresh as usize) < slots.len().min(Link::SLOTS_MAX) {
            self.fresh = self.fresh.wrapping_add(1);
            Link(self.fresh)
        } else {
            return Link::NONE;
        };
        self.used = self.used.wrapping_add(1);
        taken
    }

    /// Gives a slot back.
    pub fn give<S: Slot>(&mut self, slots: &mut [S], link: Link) {
        if let Some(slot) = slots.get_mut(link.index()) {
            slot.set_next(self.returned);
            self.returned = link;
            self.used = self.used.wrapping_sub(1);
        }
    }

    /// Number of slots taken.
    pub const fn used(&self) -> usize {
        self.used as usize
    }

    /// Number of slots that were ever taken: all beyond are untouched.
    pub const fn touched(&self) -> usize {
        self.fresh as usize
    }
}

/// The bucket of a hash in a table of this many slots; uses the upper half of the hash.
pub(crate) const fn bucket(hash: u64, slot_count: usize) -> usize {
    let slot_count = if slot_count < Link::SLOTS_MAX { slot_count } else { Link::SLOTS_MAX };
    (((hash >> 32) * slot_count as u64) >> 32) as usize
}

/// Puts a slot into a bucket.
pub(crate) fn chain_add<S: Bucket>(slots: &mut [S], bucket: usize, link: Link) {
    let Some(home) = slots.get_mut(bucket) else { return };
    let first = home.head();
    home.set_head(link);
    if let Some(slot) = slots.get_mut(link.index()) {
        slot.set_next(first);
    }
}

/// Takes a slot out of its bucket.
pub(crate) fn chain_remove<S: Bucket>(slots: &mut [S], bucket: usize, link: Link) {
    let Some(after) = slots.get(link.index()).map(Slot::next) else { return };
    let Some(home) = slots.get_mut(bucket) else { return };
    let mut before = home.head();
    if before == link {
        return home.set_head(after);
    }
    while let Some(slot) = slots.get_mut(before.index()) {
        if slot.next() == link {
            return slot.set_next(after);
        }
        before = slot.next();
    }
}

/// The first slot of a bucket that satisfies a condition.
pub(crate) fn chain_find<S: Bucket>(slots: &[S], bucket: usize, mut is_it: impl FnMut(&S) -> bool) -> Link {
    let mut link = slots.get(bucket).map_or(Link::NONE, Bucket::head);
    while let Some(slot) = slots.get(link.index()) {
        if is_it(slot) {
            return link;
        }
        link = slot.next();
    }
    Link::NONE
}

/// An address or a time in five bytes, or none. Zeroed memory is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed([u8; 5]);

impl Packed {
    /// Nothing.
    pub const NONE: Packed = Packed([0; 5]);
    /// Largest number kept; larger ones become this.
    pub const MAX: u64 = (1 << 40) - 2;

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    const fn pack(number: u64) -> Packed {
        let bounded = if number < Packed::MAX { number } else { Packed::MAX };
        let [a, b, c, d, e, ..] = (bounded + 1).to_le_bytes();
        Packed([a, b, c, d, e])
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    const fn unpack(self) -> Option<u64> {
        let [a, b, c, d, e] = self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]).checked_sub(1)
    }

    /// Keeps an address.
    pub fn from_at(at: Option<At>) -> Packed {
        at.map_or(Packed::NONE, |at| Packed::pack(at.0))
    }

    /// The address kept.
    pub fn at(self) -> Option<At> {
        self.unpack().map(At)
    }

    /// Keeps a time; what is beyond 34 years of log time never comes.
    pub fn from_millis(time: Millis) -> Packed {
        Packed::pack(time.0)
    }

    /// The time kept.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn millis(self) -> Millis {
        match self.unpack() {
            Some(Packed::MAX) | None => Millis::NEVER,
            Some(time_ms) => Millis(time_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Default)]
    struct Plain {
        head: Link,
        next: Link,
    }
    chained!(Plain, next, head);

    #[test]
    fn no_link_is_no_index() {
        assert_eq!([0u8; 4].get(Link::NONE.index()), None);
        assert_eq!(Link::to(7).index(), 7);
        assert!(Link::to(Link::SLOTS_MAX).is_none());
        assert!(Link::to(Link::SLOTS_MAX - 1).is_some());
    }

    #[test]
    fn every_slot_is_taken_once_and_given_back_first() {
        let mut slots = [Plain::default(); 3];
        let mut vacancies = Vacancies::new();
        let taken: [Link; 4] = core::array::from_fn(|_| vacancies.take(&mut slots));
        assert_eq!(taken, [Link::to(0), Link::to(1), Link::to(2), Link::NONE]);
        vacancies.give(&mut slots, Link::to(1));
        assert_eq!((vacancies.used(), vacancies.touched()), (2, 3));
        assert_eq!(vacancies.take(&mut slots), Link::to(1));
    }

    #[test]
    fn a_bucket_loses_any_of_its_slots() {
        for victim in 0..3 {
            let mut slots = [Plain::default(); 3];
            for index in 0..3 {
                chain_add(&mut slots, 1, Link::to(index));
            }
            chain_remove(&mut slots, 1, Link::to(victim));
            let mut seen = 0;
            chain_find(&slots, 1, |_| {
                seen += 1;
                false
            });
            assert_eq!(seen, 2);
        }
    }

    #[test]
    fn packed_numbers_come_back_up_to_their_largest() {
        assert_eq!(Packed::from_at(None).at(), None);
        assert_eq!(Packed::from_at(Some(At(0))).at(), Some(At(0)));
        assert_eq!(Packed::from_at(Some(At(Packed::MAX))).at(), Some(At(Packed::MAX)));
        assert_eq!(Packed::from_millis(Millis(12)).millis(), Millis(12));
        assert_eq!(Packed::from_millis(Millis::NEVER).millis(), Millis::NEVER);
    }
}
