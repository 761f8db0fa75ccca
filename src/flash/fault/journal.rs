//! What reached the device since its last finished sync, so that a loss of power can take it back.
//!
//! Every write is kept with the bytes it replaced: undone from the last to the first they give the
//! region as it was synced, and each can be done again, in part or as a whole. The device needs no
//! second image for that, and a finished sync costs no copy.
//!
//! ```text
//! entries   | write | write | write |          those before `covered` are in the sync in flight
//! arena     | replaced, written | replaced | replaced, written |      an erase keeps no new bytes
//! ```

use super::medium::Torn;

/// A write, as it was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act<'b> {
    Program { segment: u32, offset: u32, bytes: &'b [u8] },
    Erase { segment: u32 },
}

impl Act<'_> {
    pub(super) fn segment(&self) -> u32 {
        match *self {
            Act::Program { segment, .. } | Act::Erase { segment } => segment,
        }
    }

    /// Steps it takes.
    pub(super) fn steps(&self) -> u64 {
        match self {
            Act::Program { bytes, .. } => bytes.len() as u64,
            Act::Erase { .. } => super::ERASE_STEPS,
        }
    }
}

/// A write power went away under, or the last one before it went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Under<'b> {
    pub(super) act: Act<'b>,
    /// Steps of it there was power for.
    pub(super) granted: u64,
}

/// A write that is done.
#[derive(Clone, Copy, Debug)]
struct Entry {
    segment: u32,
    /// None for an erase.
    offset: Option<u32>,
    mark_before: u32,
    /// The count of steps when it was over.
    end: u64,
    replaced_at: usize,
    written_at: usize,
}

/// A write together with what it takes to undo it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done<'b> {
    pub(super) act: Act<'b>,
    pub(super) replaced: &'b [u8],
    pub(super) mark_before: u32,
}

/// The writes since the last finished sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    entries: Vec<Entry>,
    arena: Vec<u8>,
    /// How many bytes of the arena were dropped in front; places count from there.
    dropped: usize,
    covered: usize,
    /// A sync said `Done` of some of them and was lying.
    pub(super) lied: bool,
    /// What erases found torn: it is again if they are taken back.
    pub(super) healed: Vec<Torn>,
}

impl Journal {
    /// Begins an entry with what is about to be replaced.
    pub(super) fn replace<'r>(
        &mut self,
        act: &Act<'_>,
        mark_before: u32,
        end: u64,
        replaced: impl Iterator<Item = &'r [u8]>,
    ) {
        let replaced_at = self.arena.len().wrapping_add(self.dropped);
        for bytes in replaced {
            self.arena.extend_from_slice(bytes);
        }
        let (segment, offset) = match *act {
            Act::Program { segment, offset, bytes } => {
                let written_at = self.arena.len().wrapping_add(self.dropped);
                self.arena.extend_from_slice(bytes);
                self.entries.push(Entry {
                    segment,
                    offset: Some(offset),
                    mark_before,
                    end,
                    replaced_at,
                    written_at,
                });
                return;
            }
            Act::Erase { segment } => (segment, None),
        };
        let written_at = self.arena.len().wrapping_add(self.dropped);
        self.entries.push(Entry { segment, offset, mark_before, end, replaced_at, written_at });
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn done(&self, index: usize) -> Option<Done<'_>> {
        let entry = self.entries.get(index)?;
        let end = match self.entries.get(index.wrapping_add(1)) {
            Some(next) => next.replaced_at,
            None => self.arena.len().wrapping_add(self.dropped),
        };
        let bytes = |from: usize, to: usize| {
            self.arena.get(from.wrapping_sub(self.dropped)..to.wrapping_sub(self.dropped))
        };
        let replaced = bytes(entry.replaced_at, entry.written_at)?;
        let segment = entry.segment;
        let act = match entry.offset {
            Some(offset) => Act::Program { segment, offset, bytes: bytes(entry.written_at, end)? },
            None => Act::Erase { segment },
        };
        Some(Done { act, replaced, mark_before: entry.mark_before })
    }

    /// The last write, if it was over at this very step.
    pub(super) fn over_at(&self, step: u64) -> Option<Under<'_>> {
        self.entries.last().filter(|entry| entry.end == step)?;
        let done = self.done(self.len().wrapping_sub(1))?;
        Some(Under { act: done.act, granted: done.act.steps() })
    }

    /// A sync begins: it is about everything that is here.
    pub(super) fn cover(&mut self) {
        self.covered = self.entries.len();
    }

    /// The sync is over: what it was about can no longer be taken back.
    pub(super) fn settle(&mut self) {
        self.lied = false;
        self.healed.clear();
        let covered = std::mem::take(&mut self.covered).min(self.entries.len());
        match self.entries.get(covered) {
            None => self.clear(),
            Some(first) => {
                let bytes = first.replaced_at.wrapping_sub(self.dropped).min(self.arena.len());
                self.arena.drain(..bytes);
                self.dropped = first.replaced_at;
                self.entries.drain(..covered);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.arena.clear();
        self.dropped = 0;
        self.covered = 0;
        self.lied = false;
        self.healed.clear();
    }
}
