//! The device's backlog: one queue in a log, without a byte of memory for a message.
//!
//! ```text
//! log    | free | confirmed | floor: oldest not confirmed ... | cursor: next to be sent ... | tail
//! ```
//! Sequences count up from 1 and are never used twice within an epoch; a message is sent only once
//! it is durable, so that the gateway never knows one that the device does not know after a reset.
//! What is confirmed stands in one record for all of it, and is written before anything is freed.
//! Where the mount found damage, the last of those records may be lost, and sequences with it: then
//! a new epoch begins, at the price that what was confirmed since may arrive once more.
//!
//! If power goes: at most the confirms since the last SETTLED are forgotten; the gateway's dedup
//! index recognises what is then sent again.

use super::record::{
    message_digest, read_message_digest, read_payload, read_settled_digest, settled_digest, write_front,
    Head, DIGEST_MAX, FRONT_MAX, MESSAGE, SETTLED,
};
use super::{LeafError, WhenFull};
use crate::flash::Flash;
use crate::log::{
    AppendError, Damage, Log, LogOptions, LogStorage, MountError, Purpose, Restore, RestoreError, Walk,
};
use crate::units::At;

/// Segments given up for one publish at most.
const GIVEN_UP_MAX: u32 = 4;

/// What a mount gathers.
#[derive(Default)]
struct Found {
    settled: Option<(u32, u64)>,
    newest: u64,
    messages: u32,
    is_damaged: bool,
}

impl Restore for Found {
    fn record(&mut self, _: At, kind: u8, digest: &[u8], _: u32) -> Result<(), RestoreError> {
        match kind {
            MESSAGE => {
                let (_, sequence) = read_message_digest(digest).ok_or(RestoreError::Malformed)?;
                self.newest = self.newest.max(sequence);
                self.messages = self.messages.saturating_add(1);
            }
            SETTLED => {
                let (epoch, upto) = read_settled_digest(digest).ok_or(RestoreError::Malformed)?;
                self.settled = Some((epoch, upto));
                self.newest = self.newest.max(upto);
            }
            _ => return Err(RestoreError::Malformed),
        }
        Ok(())
    }

    fn damage(&mut self, _: &Damage<'_>) {
        self.is_damaged = true;
    }
}

/// A message as it is stored, borrowed from the log.
pub(super) struct Stored<'s> {
    pub(super) head: Head,
    pub(super) priority: u8,
    pub(super) sequence: u64,
    /// Sequence of the one before it that is to be sent, or that is settled.
    pub(super) before: u64,
    pub(super) topic: &'s str,
    pub(super) body: &'s [u8],
}

/// The queue in the log.
pub(super) struct Store<'a, F: Flash> {
    log: Log<'a, F>,
    policy: WhenFull,
    pub(super) epoch: u32,
    /// Everything up to here is confirmed or dropped.
    pub(super) settled: u64,
    /// Sequence of the newest message.
    pub(super) newest: u64,
    /// Sequence of the newest message before this boot.
    pub(super) before_boot: u64,
    floor: Walk,
    cursor: Walk,
    /// Sequence of the last message the cursor has passed.
    pub(super) passed: u64,
    /// Messages up to here are passed without being sent.
    skip: u64,
    /// Segment the last record went to.
    segment: u32,
    /// Messages dropped because the flash was full, and those that could not be read.
    pub(super) dropped: u32,
    pub(super) damaged: u32,
}

impl<'a, F: Flash> Store<'a, F> {
    /// Opens what is on the device; `epoch` is the first one of a new store.
    pub(super) fn mount(
        flash: F,
        storage: LogStorage<'a>,
        max_message: u16,
        policy: WhenFull,
        epoch: u32,
    ) -> Result<Self, MountError> {
        let max_record = u32::from(max_message).saturating_add((DIGEST_MAX + FRONT_MAX) as u32);
        let mut found = Found::default();
        let options = LogOptions { max_record, read_only: false };
        let (mut log, report) = Log::mount(flash, storage, options, &mut found)?;
        let is_damaged = found.is_damaged || report.damages > 0;
        let (known, settled) = found.settled.unwrap_or((epoch, 0));
        let floor = log.walk();
        let segment = log.tail().sequence();
        log.keep_from(&floor);
        let mut store = Store {
            policy,
            epoch: if is_damaged { known.wrapping_add(1) } else { known },
            settled,
            newest: found.newest,
            before_boot: found.newest,
            floor,
            cursor: floor,
            passed: settled,
            skip: 0,
            segment,
            dropped: 0,
            damaged: u32::from(is_damaged),
            log,
        };
        if found.settled.is_none() || is_damaged {
            // A full log still takes this; if the medium refuses, the first publish says so.
            let _ = store.write_settled();
        }
        store.move_floor();
        store.rewind();
        let _ = store.make_durable();
        Ok(store)
    }

    /// Stores a message; its sequence. It is durable if the device's syncs are over at once.
    pub(super) fn append(
        &mut self,
        head: &Head,
        priority: u8,
        topic: &str,
        body: &[u8],
    ) -> Result<u64, LeafError> {
        let sequence = self.newest.saturating_add(1);
        let (mut front, mut digest) = ([0; FRONT_MAX], [0; DIGEST_MAX]);
        let front = write_front(head, topic, &mut front).ok_or(LeafError::TooLarge)?;
        let digest = message_digest(priority, sequence, &mut digest);
        let parts = [front, topic.as_bytes(), body];
        let mut left = GIVEN_UP_MAX;
        loop {
            match self.log.append(MESSAGE, digest, &parts, Purpose::Publish) {
                Ok(_) => break,
                Err(AppendError::Full) => self.make_room(&mut left)?,
                Err(error) => return Err(refused(error)),
            }
        }
        self.keep();
        self.make_durable()?;
        self.newest = sequence;
        Ok(sequence)
    }

    /// Frees what is confirmed; where that is not enough, what the policy gives up.
    fn make_room(&mut self, left: &mut u32) -> Result<(), LeafError> {
        let before = self.log.stats().free_segments;
        self.free()?;
        if self.log.stats().free_segments > before {
            return Ok(());
        }
        if self.policy == WhenFull::Refuse || *left == 0 {
            return Err(LeafError::Full);
        }
        *left = left.saturating_sub(1);
        let mut walk = self.floor;
        let segment = self.floor.segment();
        while let Some(at) = self.log.walk_on(&mut walk).filter(|_| walk.segment() == segment) {
            let sequence = self.sequence_at(at).filter(|&sequence| sequence > self.settled);
            if let Some(sequence) = sequence {
                self.settled = sequence;
                self.dropped = self.dropped.saturating_add(1);
            }
        }
        // Not before that is on flash is anything freed: sequences must not be used again.
        self.write_settled()?;
        self.make_durable()?;
        self.move_floor();
        self.keep_from_floor();
        self.free()
    }

    fn free(&mut self) -> Result<(), LeafError> {
        match self.log.free_unkept() {
            Ok(()) | Err(AppendError::Full) => self.make_durable(),
            Err(error) => Err(refused(error)),
        }
    }

    /// Everything up to a sequence is confirmed by the gateway.
    pub(super) fn settle(&mut self, upto: u64) -> Result<(), LeafError> {
        if upto <= self.settled || upto > self.newest {
            return Ok(());
        }
        self.settled = upto;
        self.write_settled()?;
        self.make_durable()?;
        self.move_floor();
        self.keep_from_floor();
        if self.passed < self.settled {
            self.rewind();
        }
        Ok(())
    }

    fn write_settled(&mut self) -> Result<(), LeafError> {
        let mut digest = [0; DIGEST_MAX];
        let digest = settled_digest(self.epoch, self.settled, &mut digest);
        self.log.append(SETTLED, digest, &[], Purpose::Keep).map_err(refused)?;
        self.keep();
        Ok(())
    }

    /// Moves the floor over what is settled, up to the oldest message that is not.
    fn move_floor(&mut self) {
        loop {
            let mut next = self.floor;
            let Some(at) = self.log.walk_on(&mut next) else { return };
            if self.sequence_at(at).is_some_and(|sequence| sequence > self.settled) {
                self.floor = next.before();
                return;
            }
            self.floor = next;
        }
    }

    /// Sequence of the message there; none if it is something else.
    fn sequence_at(&mut self, at: At) -> Option<u64> {
        let record = self.log.read(at).ok().filter(|record| record.kind == MESSAGE)?;
        read_message_digest(record.digest).map(|(_, sequence)| sequence)
    }

    /// A new segment is kept too.
    fn keep(&mut self) {
        let segment = self.log.tail().sequence();
        if segment != self.segment {
            self.segment = segment;
            self.keep_from_floor();
        }
    }

    fn keep_from_floor(&mut self) {
        self.log.keep_from(&self.floor);
    }

    /// Sends again from the oldest message that is not confirmed.
    pub(super) fn rewind(&mut self) {
        (self.cursor, self.passed, self.skip) = (self.floor, self.settled, 0);
    }

    /// Sends again from behind a sequence.
    pub(super) fn rewind_to(&mut self, upto: u64) {
        self.rewind();
        self.skip = upto;
    }

    /// Hands the next message to be sent to `send`, and passes it if that is true. None if there is
    /// none, or none that is durable.
    pub(super) fn send_next(&mut self, send: impl FnOnce(&Stored<'_>) -> bool) -> Option<bool> {
        let mut next = self.cursor;
        loop {
            let at = self.log.walk_on(&mut next)?;
            if self.log.position(at) >= self.log.durable() {
                return None;
            }
            let before = self.passed;
            let Ok(record) = self.log.read(at) else {
                self.damaged = self.damaged.saturating_add(1);
                self.cursor = next;
                continue;
            };
            let sequence = match read_message_digest(record.digest) {
                Some((priority, sequence)) if record.kind == MESSAGE && sequence > before => {
                    read_payload(record.payload).map(|parts| (priority, sequence, parts))
                }
                _ => None,
            };
            let Some((priority, sequence, (head, topic, body))) = sequence else {
                self.cursor = next;
                continue;
            };
            let is_sent =
                sequence <= self.skip || send(&Stored { head, priority, sequence, before, topic, body });
            if is_sent {
                (self.cursor, self.passed) = (next, sequence);
            }
            return Some(is_sent);
        }
    }

    /// Everything that is durable was sent.
    pub(super) fn is_all_sent(&self) -> bool {
        self.passed >= self.newest
    }

    /// Starts a sync, or takes note of its end.
    pub(super) fn make_durable(&mut self) -> Result<(), LeafError> {
        let committed = self.log.commit().and_then(|()| self.log.poll());
        committed.map(|_| ()).map_err(|_| LeafError::ReadOnly)
    }

    /// The log beneath.
    pub(super) fn log(&self) -> &Log<'a, F> {
        &self.log
    }
}

fn refused(error: AppendError) -> LeafError {
    match error {
        AppendError::Full => LeafError::Full,
        AppendError::TooLarge => LeafError::TooLarge,
        _ => LeafError::ReadOnly,
    }
}
