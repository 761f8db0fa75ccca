//! A broker of the simplest kind over the log alone: messages that are live until acknowledged.
//!
//! It stands for the real one where the log is what is put to the test and speed is what counts: its
//! memory is set aside once, and a mount, a check and an append of it allocate nothing. What is live is
//! known by a fingerprint as well, so that comparing two states is comparing two numbers.

use super::ledger::mix;
use crate::flash::{Flash, Geometry};
use crate::log::{
    AppendError, Damage, Log, LogError, LogOptions, LogStorage, MountError, MountReport, Purpose, Restore,
    RestoreError, SegmentState, DIGEST_MAX, RECORD_OVERHEAD, WINDOWS_MIN,
};
use crate::units::At;

/// Kind of a message's record; its digest is the message's number, its payload the body.
pub const MESSAGE: u8 = 1;
/// Kind of an acknowledgement's record; its digest is the message's number.
pub const ACK: u8 = 2;
/// Most bytes of a body.
pub const BODY_MAX: u32 = 120;

/// Where a message is that is not there.
const NOWHERE: At = At(u64::MAX);

/// What a log works in, for one device after the other.
#[derive(Debug)]
pub struct Bench {
    segments: Vec<SegmentState>,
    tail: Vec<u8>,
    index: Vec<u8>,
    windows: Vec<u8>,
}

impl Bench {
    /// For devices of this geometry; `tail` bytes of the open segment are kept in memory.
    pub fn new(geometry: Geometry, tail: u32) -> Bench {
        let window = BODY_MAX as usize + 8 + RECORD_OVERHEAD;
        Bench {
            segments: vec![SegmentState::default(); geometry.segment_count as usize],
            tail: vec![0; tail.max(geometry.write_unit) as usize],
            index: vec![0; (geometry.segment_size as usize / 3).max(2 * DIGEST_MAX + 100)],
            windows: vec![0; (4 * window).max(WINDOWS_MIN)],
        }
    }

    /// Mounts a device and tells `restore` what is in it.
    pub fn mount<F: Flash>(
        &mut self,
        flash: F,
        restore: &mut impl Restore,
    ) -> Result<(Log<'_, F>, MountReport), MountError> {
        let storage = LogStorage {
            segments: &mut self.segments,
            tail: &mut self.tail,
            index: &mut self.index,
            windows: &mut self.windows,
        };
        let options = LogOptions { max_record: BODY_MAX + 8, read_only: false };
        Log::mount(flash, storage, options, restore)
    }
}

/// The bodies of all messages there will ever be, by number.
#[derive(Clone, Debug, Default)]
pub struct Bodies(pub Vec<Vec<u8>>);

impl Bodies {
    /// The body of a message; empty if there is no such message.
    pub fn of(&self, id: u32) -> &[u8] {
        self.0.get(id as usize).map_or(&[], Vec::as_slice)
    }
}

/// What is live, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toy {
    places: Vec<At>,
    print: u64,
    /// The number of the next message.
    pub next: u32,
    /// Records told that nobody can have written, damages told, and messages lost on the way.
    pub strays: u32,
    /// Damages that were told.
    pub damages: u32,
}

impl Toy {
    /// Room for this many messages.
    pub fn new(messages: usize) -> Toy {
        Toy { places: vec![NOWHERE; messages], ..Toy::default() }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.places.fill(NOWHERE);
        (self.print, self.next, self.strays, self.damages) = (0, 0, 0, 0);
    }

    /// A number that stands for the set of what is live.
    pub fn print(&self) -> u64 {
        self.print
    }

    /// What is live, by number, and where it is.
    pub fn live(&self) -> impl Iterator<Item = (u32, At)> + '_ {
        let numbered = (0u32..).zip(self.places.iter());
        numbered.filter(|(_, &at)| at != NOWHERE).map(|(id, &at)| (id, at))
    }

    /// Where a message is.
    pub fn place(&self, id: u32) -> At {
        self.places.get(id as usize).copied().unwrap_or(NOWHERE)
    }

    /// Whether a message is live.
    pub fn is_live(&self, id: u32) -> bool {
        self.places.get(id as usize).is_some_and(|&at| at != NOWHERE)
    }

    fn set(&mut self, id: u32, at: At) -> bool {
        let Some(place) = self.places.get_mut(id as usize) else { return false };
        if (*place == NOWHERE) != (at == NOWHERE) {
            self.print ^= mix(u64::from(id) + 1);
        }
        *place = at;
        true
    }

    /// Makes the log keep what is live.
    pub fn hold_all<F: Flash>(&self, log: &mut Log<'_, F>) {
        self.live().for_each(|(_, at)| log.hold(at));
    }

    /// Publishes the next message; its number.
    pub fn publish<F: Flash>(&mut self, log: &mut Log<'_, F>, bodies: &Bodies) -> Result<u32, AppendError> {
        let id = self.next;
        let (digest, len) = varint(id);
        let at = log.append(MESSAGE, &digest[..len], &[bodies.of(id)], Purpose::Publish)?;
        log.hold(at);
        self.set(id, at);
        self.next += 1;
        Ok(id)
    }

    /// Acknowledges a message.
    pub fn ack<F: Flash>(&mut self, log: &mut Log<'_, F>, id: u32) -> Result<(), AppendError> {
        let (digest, len) = varint(id);
        log.append(ACK, &digest[..len], &[], Purpose::Keep)?;
        let at = self.places.get(id as usize).copied().unwrap_or(NOWHERE);
        self.set(id, NOWHERE);
        log.release(at);
        Ok(())
    }

    /// Pays what reclaim owes.
    pub fn reclaim<F: Flash>(&mut self, log: &mut Log<'_, F>) -> Result<(), LogError> {
        while log.reclaim_due() {
            let Some(at) = log.reclaim_next()? else { break };
            self.judge(log, at)?;
        }
        Ok(())
    }

    fn judge<F: Flash>(&mut self, log: &mut Log<'_, F>, at: At) -> Result<(), LogError> {
        let Some((id, _)) = self.live().find(|(_, live)| *live == at) else { return Ok(()) };
        let (digest, len) = varint(id);
        match log.copy(at, MESSAGE, &digest[..len], &[(&[], 0..usize::MAX)], Purpose::Reclaim) {
            Ok(copy) => {
                log.hold(copy);
                log.release(at);
                self.set(id, copy);
                Ok(())
            }
            Err(AppendError::Source(_)) => {
                log.release(at);
                self.set(id, NOWHERE);
                self.damages += 1;
                Ok(())
            }
            Err(AppendError::Medium(error)) => Err(LogError::Medium(error)),
            Err(AppendError::ReadOnly) => Err(LogError::ReadOnly),
            Err(AppendError::Full | AppendError::TooLarge) => Ok(()),
        }
    }

    /// Reads all that is live; the first message that is not what was published.
    pub fn wrong<F: Flash>(&self, log: &mut Log<'_, F>, bodies: &Bodies) -> Option<u32> {
        let mut live = self.live();
        live.find_map(|(id, at)| {
            let same = log.read(at).is_ok_and(|record| {
                record.kind == MESSAGE && number(record.digest) == Some(id) && record.payload == bodies.of(id)
            });
            (!same).then_some(id)
        })
    }
}

impl Restore for Toy {
    fn record(&mut self, at: At, kind: u8, digest: &[u8], _: u32) -> Result<(), RestoreError> {
        let known = match (kind, number(digest)) {
            (MESSAGE, Some(id)) => {
                self.next = self.next.max(id + 1);
                self.set(id, at)
            }
            (ACK, Some(id)) => self.set(id, NOWHERE),
            _ => false,
        };
        self.strays += u32::from(!known);
        Ok(())
    }

    fn damage(&mut self, _: &Damage<'_>) {
        self.damages += 1;
    }

    fn passed(&mut self, from: At, to: At) {
        for id in 0..self.next {
            if (from..to).contains(&self.place(id)) {
                self.set(id, NOWHERE);
            }
        }
    }
}

fn varint(mut number: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut len = 0;
    loop {
        bytes[len] = number as u8 & 0x7f;
        number >>= 7;
        len += 1;
        if number == 0 {
            return (bytes, len);
        }
        bytes[len - 1] |= 0x80;
    }
}

fn number(digest: &[u8]) -> Option<u32> {
    let fits = (1..=4).contains(&digest.len());
    fits.then(|| digest.iter().rev().fold(0, |sum, &byte| sum << 7 | u32::from(byte & 0x7f)))
}
