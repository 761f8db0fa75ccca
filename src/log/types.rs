//! What goes into the log and comes out of it: the plain types of its interface.

use crate::flash::{FlashError, Geometry};
use crate::units::{At, Millis, Position};

/// Bytes a record of this log may need beyond its digest and payload, at most.
pub const RECORD_OVERHEAD: usize = 5 + 4 + 1 + 5 + 1;

/// Kinds from here on are the log's own; the broker uses those below.
pub const KIND_LIMIT: u8 = 0x7c;

/// Longest digest of a record, in bytes.
pub const DIGEST_MAX: usize = 255;

/// Least bytes of all read windows together: a mount works in them.
pub const WINDOWS_MIN: usize = 2 * super::scan::SCAN_MIN;

/// Fewest segments a store works with: what is kept in reserve, and two to use.
pub const SEGMENTS_MIN: u32 = 8;

/// What the log knows of one segment: live references into it, and its wear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentState {
    pub(super) refs: u32,
    pub(super) wear: u32,
}

/// Bit of `wear`: the segment refused to be erased or begun.
const BAD: u32 = 1 << 31;
/// Bit of `wear`: what is in the segment was dropped by the mount.
const DROPPED: u32 = 1 << 30;

impl SegmentState {
    /// Nothing is known; fills tables.
    pub const EMPTY: SegmentState = SegmentState { refs: 0, wear: 0 };

    pub(super) fn is_bad(&self) -> bool {
        self.wear & BAD != 0
    }

    pub(super) fn set_bad(&mut self) {
        self.wear |= BAD;
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.wear & DROPPED != 0
    }

    /// Its header is not one of an earlier time that could not be erased: neither dropped nor bad.
    pub(super) fn counts(&self) -> bool {
        self.wear & (BAD | DROPPED) == 0
    }

    pub(super) fn set_dropped(&mut self) {
        self.wear |= DROPPED;
    }

    pub(super) fn wear(&self) -> u32 {
        self.wear & !(BAD | DROPPED)
    }

    /// Begins a life with no references, erased for the `wear`th time.
    pub(super) fn reset(&mut self, wear: u32) {
        *self = SegmentState { refs: 0, wear: wear & !(BAD | DROPPED) };
    }
}

/// The memory a log works in; all of it is borrowed for its life.
#[derive(Debug)]
pub struct LogStorage<'a> {
    /// One per segment of the device.
    pub segments: &'a mut [SegmentState],
    /// Bytes of the open segment kept in memory. As large as a segment, recent records are read
    /// from it; smaller (at least one write unit), it holds what is not programmed yet.
    pub tail: &'a mut [u8],
    /// The footer of the open segment while it grows. A segment is closed early when this is full.
    pub index: &'a mut [u8],
    /// Read cache, split into windows of at least `max_record + RECORD_OVERHEAD` bytes; one
    /// such window is the least, and [`WINDOWS_MIN`] bytes.
    pub windows: &'a mut [u8],
}

/// How a log is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Largest record that is appended: bytes of digest and payload.
    pub max_record: u32,
    /// Only look: the mount writes nothing, and nothing can be appended.
    pub read_only: bool,
}

/// What an append is for, hence how deep it may reach into the segments kept in reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// New content: refused first.
    Publish,
    /// Acknowledgements, deletions, cursors: what makes room, or was promised room.
    Keep,
    /// Live records that reclaim moves: may use all but what a recovery needs.
    Reclaim,
}

/// A record as it is read: borrowed from the open segment's buffer or a read window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'r> {
    /// Its kind, below [`KIND_LIMIT`].
    pub kind: u8,
    /// What a mount needs to know of it.
    pub digest: &'r [u8],
    /// The rest.
    pub payload: &'r [u8],
    /// Base time of its segment.
    pub base: Millis,
    /// Bytes of digest and payload together.
    pub size: u32,
}

/// Something that was durable and is not readable any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage<'d> {
    /// Where it begins.
    pub at: At,
    /// The same in log order.
    pub position: Position,
    /// Bytes from there to the next thing that is readable, overhead included.
    pub size: u32,
    /// What is damaged.
    pub extent: Extent,
    /// Kind and digest of the record, if the segment's footer still knows them.
    pub record: Option<(u8, &'d [u8])>,
}

/// How much a [`Damage`] covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// One record, or several that cannot be told apart.
    Records,
    /// Everything in a segment.
    Segment,
}

/// Why a [`Restore`] cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The table of this name is too small for what is stored: raise the limit.
    Limit(&'static str),
    /// A record makes no sense to this version.
    Malformed,
}

/// Takes what a mount finds, in log order. Every live record is told once, at the place where
/// it is when the mount is over.
pub trait Restore {
    /// A record. `size` is that of digest and payload, as [`Record::size`].
    fn record(&mut self, at: At, kind: u8, digest: &[u8], size: u32) -> Result<(), RestoreError>;
    /// Something that was durable is lost.
    fn damage(&mut self, damage: &Damage<'_>);
    /// What was told of the places from here up to there, and not again at another, is not live: reclaim had
    /// passed it when it ended.
    fn passed(&mut self, _from: At, _to: At) {}
}

/// What a mount found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountReport {
    /// Records handed to [`Restore::record`].
    pub records: u64,
    /// Damages handed to [`Restore::damage`].
    pub damages: u32,
    /// Records in which one wrong bit was mended.
    pub mended: u32,
    /// The log was not closed: its last segment had no footer.
    pub unclean: bool,
    /// Records above the durable watermark that were copied forward.
    pub copied: u32,
    /// Bytes of whole records that were dropped because something before them, above the durable
    /// watermark, was torn.
    pub dropped: u64,
    /// There was no free segment to copy to, or nothing may be written: such records stay where they are.
    pub in_place: bool,
    /// Segments whose records were read because their footer was missing or damaged.
    pub scanned: u32,
    /// Time base of the newest segment: log time goes on from here or later.
    pub base: Millis,
}

/// Why a store could not be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountError {
    /// No segment has a header: the device is blank, or holds something else. Format it.
    NotAStore,
    /// Written with other sizes than the device says it has.
    WrongGeometry {
        /// The sizes the store was written with.
        found: Geometry,
    },
    /// Written by a newer version: use that one.
    NewerVersion {
        /// Format version of the store.
        found: u8,
    },
    /// The device's sizes cannot hold a log: see [`SEGMENTS_MIN`]; powers of two are needed. Or they are more than
    /// a broker can name places in: see [`STORE_MAX`](crate::model::entry::STORE_MAX).
    Unusable,
    /// A slice of [`LogStorage`] is too small; the name says which.
    StorageTooSmall(&'static str),
    /// The restorer refused the record there.
    Refused(At, RestoreError),
    /// The medium refused.
    Medium(FlashError),
}

/// Why a store could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// The device's sizes cannot hold a log.
    Unusable,
    /// The scratch buffer is smaller than a segment header rounded up to the write unit.
    ScratchTooSmall,
    /// The medium refused.
    Medium(FlashError),
}

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// No room for this purpose until segments are reclaimed.
    Full,
    /// Larger than `max_record`, or kind or digest out of range.
    TooLarge,
    /// A write or sync failed before: the log takes nothing more.
    ReadOnly,
    /// The record to be copied is damaged or gone.
    Source(ReadError),
    /// The medium refused; the log is read-only from now on.
    Medium(FlashError),
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Its checksum is wrong: it is lost.
    Corrupt,
    /// No live segment there.
    Gone,
    /// The medium refused.
    Medium(FlashError),
}

/// Why the log did not do what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogError {
    /// A sync failed: what was not durable is in doubt; read-only from now on.
    SyncFailed,
    /// It is read-only.
    ReadOnly,
    /// No segment left to write to.
    Full,
    /// The medium refused.
    Medium(FlashError),
}

/// What looking through one segment gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Records that were looked at.
    pub records: u32,
    /// Of those, records in which one bit is wrong, which is mended whenever they are read.
    pub mended: u32,
    /// Damages that were told.
    pub damages: u32,
    /// The segment's header is damaged. Its footer stands in for it, if it is whole.
    pub header_lost: bool,
    /// The segment's footer is damaged, and its records were read without it.
    pub footer_lost: bool,
    /// Sequence of the next segment to look through.
    pub next: Option<u32>,
}

/// Figures of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes of the region.
    pub capacity: u64,
    /// Bytes of the segments between head and tail.
    pub used: u64,
    /// Segments that can be opened.
    pub free_segments: u32,
    /// Segments that refused to be erased or begun.
    pub bad_segments: u32,
    /// Sequence of the oldest segment.
    pub head_sequence: u32,
    /// Sequence of the newest segment.
    pub tail_sequence: u32,
    /// Least erases of a segment.
    pub erases_min: u32,
    /// Most erases of a segment.
    pub erases_max: u32,
    /// Erases since the mount.
    pub erases: u64,
    /// Syncs that ended well since the mount.
    pub syncs: u64,
    /// Bytes programmed since the mount.
    pub programmed: u64,
    /// Program calls since the mount.
    pub program_calls: u64,
    /// Records appended since the mount, copies included.
    pub appended: u64,
    /// Bytes of records that reclaim copied since the mount.
    pub copied: u64,
}
