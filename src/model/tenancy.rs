//! Who uses a queue, and for how long it is there: what only the clients of a gateway ask for.
//!
//! A queue can belong to one owner, go when nobody has used it for a while, serve one consumer at a
//! time or those of a higher priority first, be asked for messages instead of handing them out, and refuse
//! to take the same message twice.
//! The core alone has none of that: there this is empty, every question has one answer, and what
//! depends on the other is not compiled.

#[cfg(feature = "gateway")]
use super::consumer::NONE;
#[cfg(feature = "gateway")]
use crate::units::Millis;

/// Whose turn it is among the consumers of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serving {
    /// One after the other.
    #[default]
    Turns,
    /// The highest priority that can take more; one after the other among equals.
    Ranks,
    /// The first of the ring and nobody else.
    Single,
}

/// What a queue keeps of this.
#[derive(Clone, Copy, Debug)]
pub struct Tenancy {
    /// The owner that alone may use it, or 0.
    #[cfg(feature = "gateway")]
    pub exclusive: u64,
    /// Since when nobody has used it; 0 if that is not known.
    #[cfg(feature = "gateway")]
    pub idle_since: Millis,
    /// It goes after so long without use, or 0.
    #[cfg(feature = "gateway")]
    pub expires_ms: u32,
    /// First of the ring of consumers that ask.
    #[cfg(feature = "gateway")]
    pub pullers: u32,
    /// Whose turn it is among its consumers.
    #[cfg(feature = "gateway")]
    pub serving: Serving,
    /// It takes a message of the same identity once.
    #[cfg(feature = "gateway")]
    pub dedup: bool,
    /// Dead letters have come to it, which may have made it too long.
    #[cfg(feature = "gateway")]
    pub overlong: bool,
}

#[cfg(feature = "gateway")]
impl Tenancy {
    /// Nothing special.
    pub const NONE: Tenancy = Tenancy {
        exclusive: 0,
        idle_since: Millis(0),
        expires_ms: 0,
        pullers: NONE,
        serving: Serving::Turns,
        dedup: false,
        overlong: false,
    };

    /// Whose turn it is.
    pub fn serving(&self) -> Serving {
        self.serving
    }

    /// The first consumer that asks, if there is one.
    pub fn puller(&self) -> Option<u32> {
        Some(self.pullers).filter(|&first| first != NONE)
    }

    /// The owner, or 0.
    pub fn exclusive(&self) -> u64 {
        self.exclusive
    }

    /// The time without use after which it goes, or 0.
    pub fn expires_ms(&self) -> u32 {
        self.expires_ms
    }

    /// It serves one consumer at a time.
    pub fn is_single(&self) -> bool {
        self.serving == Serving::Single
    }

    /// It takes a message of the same identity once.
    pub fn asks_identity(&self) -> bool {
        self.dedup
    }
}

#[cfg(not(feature = "gateway"))]
impl Tenancy {
    /// Nothing special.
    pub const NONE: Tenancy = Tenancy {};

    /// Whose turn it is.
    pub fn serving(&self) -> Serving {
        Serving::Turns
    }

    /// The first consumer that asks, if there is one.
    pub fn puller(&self) -> Option<u32> {
        None
    }

    /// The owner, or 0.
    pub fn exclusive(&self) -> u64 {
        0
    }

    /// The time without use after which it goes, or 0.
    pub fn expires_ms(&self) -> u32 {
        0
    }

    /// It serves one consumer at a time.
    pub fn is_single(&self) -> bool {
        false
    }

    /// It takes a message of the same identity once.
    pub fn asks_identity(&self) -> bool {
        false
    }
}
