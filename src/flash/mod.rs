//! The device contract: what the log asks of its medium, as promises and permissions.
//!
//! A device is a region of equal segments, as NOR flash has them; a block device or a
//! preallocated file is used the same way. The log programs every write unit **once** per
//! erase, in ascending order within a segment, and never relies on the value of erased bytes.
//!
//! Promises of a device
//! - After `erase(s)` returned Ok, any unit of `s` can be programmed once, and what the first and the
//!   last [`WIPED`] bytes of `s` held is gone; the rest may still be read until it is programmed.
//! - After `program` returned Ok, `read` gives those bytes until power goes.
//! - When `poll_sync` answered `Done`, everything programmed or erased before the matching
//!   `start_sync` survives a loss of power.
//! - What can be read when a device is opened survives one as well: a mount builds on it. Where a process that
//!   was killed may have left something in a cache, opening ends with a sync. What a sync before lost, and
//!   a cache still has, goes with [`Flash::forget`], which a mount calls where something is in doubt.
//!
//! Permissions of a device
//! - Power may go within any call; the units touched then hold anything, and may read
//!   differently later.
//! - Between two syncs writes may reach the medium in any order, unless it says it is `ordered`.
//! - A read may return wrong bytes (the log checks every record) or fail.
//! - After a failed sync nothing is promised of what it covered; the log never retries it.

#[cfg(feature = "gateway")]
pub mod fault;
#[cfg(feature = "gateway")]
pub mod file;
#[cfg(feature = "gateway")]
pub mod image;
pub mod nor;
pub mod ram;

/// Bytes at both ends of a segment that an erase wipes at least.
pub const WIPED: u32 = 64;

/// Sizes of a device, all in bytes unless named a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of one segment: what is erased at once.
    pub segment_size: u32,
    /// Number of segments in the region.
    pub segment_count: u32,
    /// Bytes programmed at once; offsets and lengths of `program` are multiples of it.
    pub write_unit: u32,
}

/// Why a device did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError {
    /// Out of the region, or not a multiple of the write unit. A defect of the caller.
    OutOfBounds,
    /// The medium refused to read, program or erase this place.
    Medium,
    /// The medium takes no more writes at all (read-only, full, failed sync).
    ReadOnly,
}

/// How a sync is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// No sync was started since the last one ended.
    Idle,
    /// Started, not over.
    Pending,
    /// Over: what was programmed before `start_sync` is durable. Told once, then `Idle`.
    Done,
    /// Over and failed: what was programmed since the sync before is in doubt. Told once.
    Failed,
}

/// A flash region. Every call is complete when it returns, but for the sync.
pub trait Flash {
    /// Sizes of the region; they never change.
    fn geometry(&self) -> Geometry;

    /// Reads `into.len()` bytes at `offset` of a segment; any alignment.
    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError>;

    /// Programs bytes at `offset`; both a multiple of the write unit, the place erased before.
    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError>;

    /// Makes every unit of a segment programmable once more.
    fn erase(&mut self, segment: u32) -> Result<(), FlashError>;

    /// Asks for everything programmed so far to be made durable. One at a time.
    fn start_sync(&mut self) -> Result<(), FlashError>;

    /// Tells how the sync is doing; `Done` and `Failed` are told once.
    fn poll_sync(&mut self) -> SyncState;

    /// Writes reach the medium in the order they were made, also between syncs, as on raw NOR. A
    /// mount then gets by with fewer reads.
    fn ordered(&self) -> bool {
        false
    }

    /// Makes the next reads ask the medium itself, and no cache; false if there is none, so that to read again
    /// tells nothing else.
    fn forget(&mut self) -> bool {
        false
    }

    /// A number that is another each time the device is opened, unless erasing leaves nothing of
    /// what was there. It keeps what an unclean stop left behind from being taken for new. Such a device's
    /// write unit holds a segment's header (64 bytes or more): or units of two headers might make a third.
    fn nonce(&self) -> u32 {
        0
    }
}

impl<F: Flash + ?Sized> Flash for &mut F {
    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        (**self).read(segment, offset, into)
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        (**self).program(segment, offset, bytes)
    }

    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        (**self).erase(segment)
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
        (**self).start_sync()
    }

    fn poll_sync(&mut self) -> SyncState {
        (**self).poll_sync()
    }

    fn ordered(&self) -> bool {
        (**self).ordered()
    }

    fn forget(&mut self) -> bool {
        (**self).forget()
    }

    fn nonce(&self) -> u32 {
        (**self).nonce()
    }
}
