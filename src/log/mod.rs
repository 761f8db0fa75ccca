//! The circular segment log: everything durable is a record in it.
//!
//! One region of flash is used as a ring of segments, written in order and reclaimed in the
//! same order. A record has a kind, a digest (what a mount needs to know of it) and a payload;
//! what they mean is the business of the layer above. What was synced survives any loss of power;
//! what was not is kept up to the first torn byte and no further. That is bought with copying
//! rather than with rewriting: every write unit is programmed once per erase.
//!
//! ```text
//! ring      | closed | closed | closed | open     | free | free |
//!             head: reclaimed next       appended   erased just before use
//! segment   | header | records, packed; padded to the write unit at every flush | footer |
//! ```
//! The bytes are drawn where they are made: `layout` (header, trailer), `record`, `index` (footer).
//!
//! Invariants
//! - A segment is erased only when the log is durable beyond the record that moved the head past
//!   it, and so beyond the copies of all that was live in it (`space`, `reclaim`).
//! - Nothing is appended behind bytes of an earlier life: a segment found open is left as it is.
//!   What it holds above the last known watermark is copied to the next before it counts (`mount`).
//! - A damaged record below the watermark is reported, and costs itself; above it, it ends the log.
//! - After a failed write or sync the log is read-only; reads go on.
//!
//! Limits: [`RECORD_OVERHEAD`], [`KIND_LIMIT`], [`DIGEST_MAX`], [`SEGMENTS_MIN`], [`WINDOWS_MIN`].
//! A restart after an unclean stop that finds something in doubt uses up a free segment, and so does the
//! first append after any restart. One is always there for it (`space`); where media go bad and there is none, a
//! mount leaves what is in doubt where it is. The layer above reclaims before it appends.

#[cfg(feature = "gateway")]
mod batch;
mod bytes;
pub(crate) mod checksum;
mod doubt;
mod index;
mod layout;
mod locate;
mod medium;
mod mend;
mod mount;
mod read;
mod reclaim;
mod record;
mod restore;
mod scan;
mod scrub;
mod space;
mod survey;
mod tail;
mod types;
mod walk;
mod write;

#[cfg(feature = "gateway")]
pub use batch::BatchSize;
pub use locate::{identify, Identity, SegmentFacts};
#[cfg(feature = "gateway")]
pub use reclaim::capacity_bytes;
pub use types::*;
pub use walk::Walk;
pub use write::PIECES_MAX;

use crate::flash::Flash;
use crate::units::{At, Millis, Position};

/// The segment that is written to.
#[derive(Debug)]
struct Open {
    sequence: u32,
    seed: u32,
    base: Millis,
    resume: Position,
    /// Something was appended since the last flush.
    batching: bool,
}

/// Whether what is appended counts once it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Yes.
    Counts,
    /// The open segment counts for nothing until something on flash says that what is in it is durable.
    Provisional,
    /// That is written, and durable with the next sync.
    Marked,
}

/// What a mount has left to be done with the segments it dropped or copied as a whole.
#[derive(Clone, Copy, Debug)]
enum Aftermath {
    /// Erase those between these sequences that were dropped, and all from the third on, once what stands for
    /// them is durable.
    Erase(u32, u32, u32),
    /// They are erased, which is not durable yet.
    Settle,
    /// Nothing.
    None,
}

/// A log over a device. The caller drives it: append, [`commit`](Log::commit),
/// [`poll`](Log::poll), and [`reclaim_next`](Log::reclaim_next) while it is due.
pub struct Log<'a, F: Flash> {
    medium: medium::Medium<F>,
    salt: u32,
    max_record: u32,
    segments: &'a mut [SegmentState],
    space: space::Space,
    windows: read::Windows<'a>,
    tail: tail::Tail<'a>,
    index: index::IndexWriter<'a>,
    open: Option<Open>,
    /// Where the content ends while no segment is open.
    end: Position,
    durable: Position,
    /// How far the log says on flash that it is durable.
    watermark: Position,
    aftermath: Aftermath,
    syncing: Option<Position>,
    /// Something was written that no sync was started for.
    dirty: bool,
    read_only: bool,
    now: Millis,
    /// Bytes reclaim owes.
    debt: u32,
    cursor: Option<reclaim::Cursor>,
    /// Segments from there on are offered also if nobody refers to them.
    offered_from: Option<Position>,
    /// Segments up to this sequence are reclaimed though there is room.
    unwanted: Option<u32>,
    lap: reclaim::Lap,
    /// References held, all segments together.
    live: u64,
    /// The head moved, and no record says so yet.
    head_unwritten: bool,
    standing: Standing,
    /// Reclaim was refused a segment for a copy.
    is_refused: bool,
    /// A segment refused to be erased or written at some time before the mount.
    is_wounded: bool,
    syncs: u64,
    appended: u64,
    copied: u64,
}

impl<F: Flash> core::fmt::Debug for Log<'_, F> {
    /// Without its memory, which nobody wants to read.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Log").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<F: Flash> Log<'_, F> {
    /// Everything before this position survives a loss of power.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Where the next record goes, or later.
    pub fn tail(&self) -> Position {
        match &self.open {
            Some(open) => Position::new(open.sequence, self.tail.end()),
            None => self.end,
        }
    }

    /// A sync is in flight.
    pub fn syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Something was written that no sync covers yet.
    pub fn unsynced(&self) -> bool {
        self.dirty && !self.is_held()
    }

    /// What is appended counts for nothing yet, and must fit into the open segment until it does.
    #[cfg(feature = "gateway")]
    pub fn is_provisional(&self) -> bool {
        self.standing == Standing::Provisional && !self.read_only
    }

    /// Making this durable would use up the last free segment and free none: reclaim comes first.
    fn is_held(&self) -> bool {
        let gains = !self.head_unwritten && self.space.free_soon() > 0;
        self.standing == Standing::Provisional && self.space.free() == 0 && !gains
    }

    /// It takes nothing more, because a write or a sync failed.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Order in the log of a live place: the record there is durable iff this is before
    /// [`Log::durable`]. A place that is not live comes before everything.
    pub fn position(&self, at: At) -> Position {
        let (index, offset) = self.medium.ring.split(at);
        self.space.sequence(index).map_or(Position(0), |sequence| Position::new(sequence, offset))
    }

    /// A live reference to the record there was made: its segment is kept until it is released.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn hold(&mut self, at: At) {
        if let Some(segment) = self.segment(at) {
            segment.refs = segment.refs.saturating_add(1);
            self.live = self.live.saturating_add(1);
        }
    }

    /// A live reference to the record there is gone.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn release(&mut self, at: At) {
        if let Some(segment) = self.segment(at) {
            segment.refs = segment.refs.saturating_sub(1);
            self.live = self.live.saturating_sub(1);
        }
    }

    /// Base time for segments opened from now on; it never goes back.
    pub fn set_time(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    /// The device.
    pub fn device(&self) -> &F {
        &self.medium.flash
    }

    /// Bytes of index that a segment may have at most.
    pub fn index_bytes(&self) -> u32 {
        self.index.capacity()
    }

    /// Figures.
    pub fn stats(&self) -> LogStats {
        let ring = &self.medium.ring;
        let wear = |extreme: fn(u32, u32) -> u32| {
            self.segments.iter().map(SegmentState::wear).reduce(extreme).unwrap_or(0)
        };
        let used = self.space.last.saturating_sub(self.space.freed).saturating_add(1);
        LogStats {
            capacity: u64::from(ring.count()).saturating_mul(ring.size().into()),
            used: u64::from(used).saturating_mul(ring.size().into()),
            free_segments: self.space.free(),
            bad_segments: self.space.bad,
            head_sequence: self.space.head,
            tail_sequence: self.space.last,
            erases_min: wear(u32::min),
            erases_max: wear(u32::max),
            erases: self.medium.erases,
            syncs: self.syncs,
            programmed: self.medium.programmed,
            program_calls: self.medium.program_calls,
            appended: self.appended,
            copied: self.copied,
        }
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn segment(&mut self, at: At) -> Option<&mut SegmentState> {
        let (index, _) = self.medium.ring.split(at);
        self.segments.get_mut(index as usize)
    }
}
