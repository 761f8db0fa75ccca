//! One message in one queue: where its record stands, what state it is in, when that ends.
//!
//! Twelve bytes, because there are many, and ten in the core alone. Times keep 40 bits: 34 years of
//! milliseconds since the store was made. So do addresses, for a store of 1 TiB, and 24 bits in the core
//! alone, for one of 16 MiB.
//! ```text
//!  at (40 or 24 bits) | due (40 bits) | deliveries (8) | flags (8)
//!
//!            publish                      deliver                 ack
//!  (none) ------------> delayed --due--> ready ------> in flight -----> (none)
//!             |                            ^  ^             |
//!             +------ no delay ------------+  +-- return ---+--> dead letter, expired
//! ```
//! While an entry is in flight, `at` names its slot in the in-flight table, which keeps the
//! address; `due` is the end of its lease. While it is ready, `due` is the end of its TTL.

use crate::command::Grade;
use crate::units::{At, Millis};

/// Bytes of an address.
const AT_SIZE: usize = if cfg!(feature = "gateway") { 5 } else { 3 };
/// Bytes of a time.
const DUE_SIZE: usize = 5;

/// Bytes of a store that an entry can name a place in.
pub const STORE_MAX: u64 = 1 << (8 * AT_SIZE);
/// The largest time an entry can hold.
const DUE_MAX: u64 = (1 << (8 * DUE_SIZE)) - 1;

/// What is true of an entry, as bits of its `flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flag {
    /// Its record is not kept over a restart.
    Transient = 1 << 2,
    /// It may have been delivered before.
    Exposed = 1 << 3,
    /// The receiver has it; only the release is outstanding.
    Received = 1 << 4,
    /// It waits for `due` before it is ready.
    Delayed = 1 << 5,
    /// Its record carries a TTL or a delay of its own.
    Timed = 1 << 6,
    /// It was handed to a consumer.
    InFlight = 1 << 7,
}

const GRADE_MASK: u8 = 0b11;

/// The state of one message in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    at: [u8; AT_SIZE],
    due: [u8; DUE_SIZE],
    /// Deliveries so far, up to 255.
    pub deliveries: u8,
    flags: u8,
}

impl Entry {
    /// No entry; fills tables.
    pub const EMPTY: Entry = Entry { at: [0; AT_SIZE], due: [0; DUE_SIZE], deliveries: 0, flags: 0 };

    /// An entry for the record at `at`, without a due time.
    pub fn new(at: At, grade: Grade) -> Entry {
        let mut entry = Entry { flags: grade as u8, ..Entry::default() };
        entry.set_at(at);
        entry.set_due(Millis::NEVER);
        entry
    }

    /// Address of the record; while in flight, the slot of the in-flight table.
    pub fn at(&self) -> At {
        At(wide(self.at))
    }

    /// Moves the entry to another address.
    pub fn set_at(&mut self, at: At) {
        self.at = narrow(at.0);
    }

    /// When something is to happen to the entry; `NEVER` if nothing.
    pub fn due(&self) -> Millis {
        match wide(self.due) {
            DUE_MAX => Millis::NEVER,
            due => Millis(due),
        }
    }

    /// Sets when something is to happen; times beyond 40 bits are `NEVER`.
    pub fn set_due(&mut self, due: Millis) {
        self.due = narrow(due.0.min(DUE_MAX));
    }

    /// How the message is handed over.
    pub fn grade(&self) -> Grade {
        grade_from_bits(self.flags)
    }

    /// Whether a flag is set.
    pub fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u8 != 0
    }

    /// Sets or clears a flag.
    pub fn put(&mut self, flag: Flag, on: bool) {
        if on {
            self.flags |= flag as u8;
        } else {
            self.flags &= !(flag as u8);
        }
    }
}

/// The number of these bytes, the lowest first.
fn wide<const N: usize>(bytes: [u8; N]) -> u64 {
    let mut all = [0; 8];
    all.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    u64::from_le_bytes(all)
}

/// The lowest bytes of a number.
fn narrow<const N: usize>(number: u64) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(to, byte)| *to = byte);
    bytes
}

/// The grade in the two lowest bits of a byte; 3 is read as the highest.
pub fn grade_from_bits(bits: u8) -> Grade {
    match bits & GRADE_MASK {
        0 => Grade::AtMostOnce,
        1 => Grade::AtLeastOnce,
        _ => Grade::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_twelve_bytes_and_keeps_forty_bits() {
        assert_eq!(core::mem::size_of::<Entry>(), 12);
        let mut entry = Entry::new(At(0xAB_CDEF_0123), Grade::ExactlyOnce);
        assert_eq!(entry.at(), At(0xAB_CDEF_0123));
        assert_eq!(entry.due(), Millis::NEVER);
        entry.set_due(Millis(0x12_3456_789A));
        entry.put(Flag::Delayed, true);
        assert_eq!(entry.due(), Millis(0x12_3456_789A));
        assert_eq!(entry.grade(), Grade::ExactlyOnce);
        assert!(entry.is(Flag::Delayed) && !entry.is(Flag::InFlight));
        entry.put(Flag::Delayed, false);
        assert!(!entry.is(Flag::Delayed));
        entry.set_due(Millis(1 << 50));
        assert_eq!(entry.due(), Millis::NEVER);
    }
}
