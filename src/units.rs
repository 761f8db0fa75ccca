//! The quantities that travel between the layers, each a type of its own.
//!
//! An index, a count and a size are different things, and so are a place in the log that
//! moves (`At`) and an order in it that never goes back (`Position`). Everything here is
//! plain data: `Copy`, ordered, without behaviour beyond its own arithmetic.

use serde::{Deserialize, Serialize};

/// Declares a transparent wrapper around one integer.
macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

unit! {
    /// Index of a queue in the table of queues; stable over restarts for a durable queue.
    QueueId(u16)
}
unit! {
    /// Index of an exchange in the table of exchanges; stable over restarts.
    ExchangeId(u16)
}
unit! {
    /// Index of a binding in the table of bindings; not stable over restarts.
    BindingId(u32)
}
unit! {
    /// Number of a message within one queue or stream, from 0, never used twice.
    Offset(u64)
}
unit! {
    /// Milliseconds of log time, which never goes back (see `time`).
    Millis(u64)
}
unit! {
    /// Byte address of a record in the flash region: segment index times segment size, plus
    /// offset. It names the record until the segment is reclaimed; 40 bits are kept of it, 24 in the core alone.
    At(u64)
}
unit! {
    /// Order in the log: segment sequence in the upper 32 bits, offset in the lower. Only grows.
    Position(u64)
}
unit! {
    /// Index of a consumer in the table of consumers.
    ConsumerId(u32)
}
unit! {
    /// Names one delivery that waits for its acknowledgement: slot and generation.
    Tag(u64)
}

impl Position {
    /// Builds the position of `offset` bytes into the segment with this sequence number.
    pub const fn new(sequence: u32, offset: u32) -> Position {
        Position((sequence as u64) << 32 | offset as u64)
    }

    /// Sequence number of the segment.
    pub const fn sequence(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Bytes into the segment.
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }
}

impl Millis {
    /// A moment that never comes.
    pub const NEVER: Millis = Millis(u64::MAX);

    /// This moment plus a number of milliseconds; stays at the largest value.
    pub const fn after(self, span_ms: u64) -> Millis {
        Millis(self.0.saturating_add(span_ms))
    }

    /// Milliseconds from an earlier moment to this one; 0 if it is not earlier.
    pub const fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
