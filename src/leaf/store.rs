//! The device's backlog: two lanes of one queue in a log, without a byte of memory for a message.
//!
//! ```text
//! log    | free | confirmed | first: oldest not confirmed ... | cursor: next to be sent ... | tail
//! ```
//! Sequences count up from 1 over both lanes and are never used twice within an epoch; a message is sent
//! only once it is durable, so that the gateway never knows one that the device does not know after a reset.
//! What is confirmed stands in one record for all of it, and is written before anything is freed.
//! Where the mount found damage, the last of those records may be lost, and sequences with it: then
//! a new epoch begins, at the price that what was confirmed since may arrive once more.
//!
//! The lane of what is fresh has its own `first` and `cursor` over the same records. A lane that has nothing
//! to send does not walk: it begins with the next message that is stored in it.
//!
//! If power goes: at most the confirms since the last SETTLED are forgotten; the gateway's dedup
//! index recognises what is then sent again.

use super::record::{
    read_payload, read_settled_digest, settled_digest, write_front, Head, Mark, DIGEST_MAX, FRONT_MAX, LANES,
    MESSAGE, SETTLED,
};
use super::{LeafError, WhenFull};
use crate::flash::Flash;
use crate::log::{
    AppendError, Damage, Log, LogOptions, LogStorage, MountError, Purpose, Restore, RestoreError, Walk,
};
use crate::units::At;

/// The lane of what waits since there was no session, and of everything where the oldest goes first.
pub(super) const BACKLOG: usize = 0;
/// The lane of what was stored while there was a session, where that goes first.
pub(super) const FRESH: usize = 1;

/// Messages of a lane that may be unconfirmed at most: what may have been sent before a reset.
pub(super) const SENT_MAX: u64 = 64;
/// Free segments that a start sees to: fewer than a publish leaves, more than confirms need.
const RESERVE: u32 = 4;
/// Segments given up for one publish at most.
const GIVEN_UP_MAX: u32 = 4;

/// What a mount gathers.
#[derive(Default)]
struct Found {
    epoch: Option<u32>,
    settled: [u64; LANES],
    settled_at: Option<At>,
    newest: [u64; LANES],
    is_damaged: bool,
}

impl Restore for Found {
    fn record(&mut self, at: At, kind: u8, digest: &[u8], _: u32) -> Result<(), RestoreError> {
        match kind {
            MESSAGE => {
                let mark = Mark::read(digest).ok_or(RestoreError::Malformed)?;
                if let Some(settled) = self.settled.get_mut(mark.lane) {
                    *settled = mark.moved_from.max(*settled);
                }
                if let Some(newest) = self.newest.get_mut(mark.lane) {
                    *newest = mark.sequence.max(*newest);
                }
            }
            SETTLED => {
                let (epoch, upto) = read_settled_digest(digest).ok_or(RestoreError::Malformed)?;
                (self.epoch, self.settled, self.settled_at) = (Some(epoch), upto, Some(at));
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
    pub(super) lane: usize,
    pub(super) sequence: u64,
    /// Sequence of the one before it in its lane that is to be sent, or that is settled.
    pub(super) before: u64,
    pub(super) topic: &'s str,
    pub(super) body: &'s [u8],
}

/// One of the two lanes.
#[derive(Default)]
pub(super) struct Lane {
    /// Everything up to here is confirmed or dropped.
    pub(super) settled: u64,
    /// Sequence of the newest message.
    pub(super) newest: u64,
    /// Sequence of the last message the cursor has passed.
    pub(super) passed: u64,
    /// Messages up to here may have been sent, in this life or before.
    pub(super) maybe_sent: u64,
    /// Messages up to here are passed without being sent.
    skip: u64,
    /// Before the oldest message that is not settled.
    first: Walk,
    cursor: Walk,
}

impl Lane {
    /// Nothing waits in it.
    pub(super) fn is_idle(&self) -> bool {
        self.newest <= self.settled
    }

    fn is_all_sent(&self) -> bool {
        self.passed >= self.newest
    }

    fn rewind(&mut self, skip: u64) {
        (self.cursor, self.passed, self.skip) = (self.first, self.settled, skip);
    }
}

/// The queue in the log.
pub(super) struct Store<'a, F: Flash> {
    pub(super) log: Log<'a, F>,
    pub(super) policy: WhenFull,
    pub(super) epoch: u32,
    pub(super) lanes: [Lane; LANES],
    /// Sequence of the newest message.
    pub(super) newest: u64,
    /// Sequence of the newest message before this boot.
    pub(super) before_boot: u64,
    /// Segment the last record went to, and the last SETTLED.
    segment: u32,
    settled_in: u32,
    /// What was given up is not on flash yet.
    is_unsure: bool,
    /// Messages dropped because the flash was full, and those that could not be read.
    pub(super) dropped: u32,
    pub(super) damaged: u32,
}

impl<'a, F: Flash> Store<'a, F> {
    /// A store that knows nothing yet of what is on the device.
    #[inline]
    pub(super) fn new(
        flash: F,
        storage: LogStorage<'a>,
        max_message: u16,
        policy: WhenFull,
    ) -> Result<Self, MountError> {
        let max_record = u32::from(max_message).saturating_add((DIGEST_MAX + FRONT_MAX) as u32);
        Ok(Store {
            log: Log::new(flash, storage, LogOptions { max_record, read_only: false })?,
            policy,
            epoch: 0,
            lanes: [Lane::default(), Lane::default()],
            newest: 0,
            before_boot: 0,
            segment: 0,
            settled_in: 0,
            is_unsure: false,
            dropped: 0,
            damaged: 0,
        })
    }

    /// Takes over what is on the device; `epoch` is the first one of a new store.
    pub(super) fn restore(&mut self, epoch: u32) -> Result<(), MountError> {
        let mut found = Found::default();
        let report = self.log.restore(&mut found)?;
        let is_damaged = found.is_damaged || report.damages > 0;
        let first = self.log.walk();
        self.segment = self.log.tail().sequence();
        self.settled_in = found.settled_at.map_or(first.segment(), |at| self.log.position(at).sequence());
        self.log.keep_from(first.segment());
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let settled = found.settled.get(number).copied().unwrap_or(0);
            let newest = found.newest.get(number).map_or(settled, |&newest| newest.max(settled));
            let maybe_sent = settled.saturating_add(SENT_MAX);
            *lane = Lane { settled, newest, passed: settled, maybe_sent, skip: 0, first, cursor: first };
            self.newest = self.newest.max(newest);
        }
        self.before_boot = self.newest;
        let known = found.epoch.unwrap_or(epoch);
        self.epoch = if is_damaged { known.wrapping_add(1) } else { known };
        self.damaged = u32::from(is_damaged);
        if found.epoch.is_none() || is_damaged {
            // A full log still takes this; if the medium refuses, the first publish says so.
            let _ = self.write_settled();
        }
        self.move_firsts();
        self.keep_needed();
        self.suspect_first();
        self.rewind();
        let _ = self.make_durable();
        // Each start may take a segment of what is kept in reserve: it is given back before anything else.
        let mut left = GIVEN_UP_MAX;
        while self.log.stats().free_segments < RESERVE && self.make_room(&mut left).is_ok() {}
        Ok(())
    }

    /// The first message of each lane may have been sent before a reset, however far it is from the one
    /// before it.
    fn suspect_first(&mut self) {
        for number in 0..LANES {
            let Some(mut walk) = self.lanes.get(number).map(|lane| lane.first) else { return };
            let first = self.log.walk_on(&mut walk).and_then(|at| self.mark_at(at));
            let first = first.filter(|mark| mark.lane == number).map_or(0, |mark| mark.sequence);
            if let Some(lane) = self.lanes.get_mut(number) {
                lane.maybe_sent = lane.maybe_sent.max(first);
            }
        }
    }

    /// Stores a message; its sequence. It is durable if the device's syncs are over at once.
    pub(super) fn append(
        &mut self,
        head: &Head,
        (lane, priority): (usize, u8),
        topic: &str,
        body: &[u8],
    ) -> Result<u64, LeafError> {
        let mut front = [0; FRONT_MAX];
        let front = write_front(head, topic, &mut front).ok_or(LeafError::TooLarge)?;
        let parts = [front, topic.as_bytes(), body];
        let mut left = GIVEN_UP_MAX;
        loop {
            let sequence = self.newest.saturating_add(1);
            let mut digest = [0; DIGEST_MAX];
            let mark = Mark { priority, lane, moved_from: 0, sequence };
            match self.log.append(MESSAGE, mark.write(&mut digest), &parts, Purpose::Publish) {
                Ok(at) => {
                    self.stored(lane, sequence, at);
                    self.make_durable()?;
                    return Ok(sequence);
                }
                Err(AppendError::Full) => self.make_room(&mut left)?,
                Err(error) => return Err(refused(error)),
            }
        }
    }

    /// A message was appended.
    pub(super) fn stored(&mut self, lane: usize, sequence: u64, at: At) {
        self.newest = sequence;
        let begins = self.lanes.get(lane).is_some_and(Lane::is_idle);
        let unread = self.lanes.get(lane).is_some_and(Lane::is_all_sent);
        if begins || unread {
            let walk = self.log.walk_to(at);
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.first = if begins { walk } else { lane.first };
                lane.cursor = if unread { walk } else { lane.cursor };
            }
        }
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.newest = sequence;
        }
        self.keep();
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
        // What was given up counts once that is written: until then what waits behind it is not sent, so that
        // what may have been sent follows from what the flash says.
        self.is_unsure = self.keeps();
        self.give_up();
        self.pass_settled()?;
        self.free()
    }

    fn free(&mut self) -> Result<(), LeafError> {
        match self.log.free_unkept() {
            Ok(()) | Err(AppendError::Full) => self.make_durable(),
            Err(error) => Err(refused(error)),
        }
    }

    /// Everything of a lane up to a sequence is confirmed by the gateway.
    pub(super) fn settle(&mut self, number: usize, upto: u64) -> Result<(), LeafError> {
        let Some(lane) = self.lanes.get_mut(number) else { return Ok(()) };
        if upto <= lane.settled || upto > lane.newest {
            return Ok(());
        }
        let before = core::mem::replace(&mut lane.settled, upto);
        let written = self.pass_settled();
        let is_lost = written.is_err() && self.keeps();
        if let Some(lane) = self.lanes.get_mut(number).filter(|_| is_lost) {
            // It is confirmed again; see `make_room`.
            lane.settled = before;
        }
        written
    }

    /// The policy stores messages again.
    pub(super) fn keeps(&self) -> bool {
        matches!(self.policy, WhenFull::DropLowest | WhenFull::KeepLast)
    }

    /// Writes what is settled, and goes on behind it. Nothing is freed before that is on flash: sequences
    /// must not be used again.
    fn pass_settled(&mut self) -> Result<(), LeafError> {
        self.write_settled()?;
        self.make_durable()?;
        self.is_unsure = false;
        self.move_firsts();
        self.keep_needed();
        self.lanes.iter_mut().filter(|lane| lane.passed < lane.settled).for_each(|lane| lane.rewind(0));
        Ok(())
    }

    fn write_settled(&mut self) -> Result<(), LeafError> {
        let mut digest = [0; DIGEST_MAX];
        let settled = self.lanes.each_ref().map(|lane| lane.settled);
        let digest = settled_digest(self.epoch, settled, &mut digest);
        // It frees others, so it may take what is kept for that; where that is gone, what is free without it.
        let written = match self.log.append(SETTLED, digest, &[], Purpose::Reclaim) {
            Err(AppendError::Full) => {
                self.free()?;
                self.log.append(SETTLED, digest, &[], Purpose::Reclaim)
            }
            written => written,
        };
        written.map_err(refused)?;
        self.settled_in = self.log.tail().sequence();
        self.keep();
        Ok(())
    }

    /// Moves the lanes' beginnings over what is settled, up to the oldest message that is not.
    fn move_firsts(&mut self) {
        for number in 0..LANES {
            while let Some(lane) = self.lanes.get(number).filter(|lane| !lane.is_idle()) {
                let (settled, mut next) = (lane.settled, lane.first);
                let Some(at) = self.log.walk_on(&mut next) else { break };
                let mark = self.mark_at(at);
                let waits = mark.is_some_and(|mark| mark.lane == number && mark.sequence > settled);
                let Some(lane) = self.lanes.get_mut(number) else { break };
                lane.first = if waits { next.before() } else { next };
                if waits {
                    break;
                }
            }
        }
    }

    /// What is known of the message there; none if it is something else.
    pub(super) fn mark_at(&mut self, at: At) -> Option<Mark> {
        let record = self.log.read(at).ok().filter(|record| record.kind == MESSAGE)?;
        Mark::read(record.digest)
    }

    /// A new segment is kept too.
    fn keep(&mut self) {
        let segment = self.log.tail().sequence();
        if segment != self.segment {
            self.segment = segment;
            self.keep_needed();
        }
    }

    /// The oldest segment that is needed.
    pub(super) fn oldest(&self) -> u32 {
        let waiting = self.lanes.iter().filter(|lane| !lane.is_idle());
        waiting.fold(self.settled_in, |oldest, lane| lane.first.segment().min(oldest))
    }

    fn keep_needed(&mut self) {
        let oldest = self.oldest();
        self.log.keep_from(oldest);
    }

    /// Sends again from the oldest messages that are not confirmed.
    pub(super) fn rewind(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.rewind(0));
    }

    /// Sends again from behind a sequence.
    pub(super) fn rewind_to(&mut self, lane: usize, upto: u64) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.rewind(upto);
        }
    }

    /// Hands the next message of a lane that is to be sent to `send`, and passes it if that is true. None
    /// if there is none, or none that is durable.
    pub(super) fn send_next(
        &mut self,
        number: usize,
        send: impl FnOnce(&Stored<'_>) -> bool,
    ) -> Option<bool> {
        let is_unsure = self.is_unsure;
        let lane = self.lanes.get_mut(number).filter(|lane| !is_unsure && !lane.is_all_sent())?;
        let mut next = lane.cursor;
        loop {
            let at = self.log.walk_on(&mut next)?;
            if self.log.position(at) >= self.log.durable() {
                return None;
            }
            let before = lane.passed;
            let Ok(record) = self.log.read(at) else {
                self.damaged = self.damaged.saturating_add(1);
                lane.cursor = next;
                continue;
            };
            let mark = Mark::read(record.digest)
                .filter(|mark| record.kind == MESSAGE && mark.lane == number && mark.sequence > before);
            let parts = mark.and_then(|mark| Some((mark, read_payload(record.payload)?)));
            let Some((Mark { priority, sequence, .. }, (head, topic, body))) = parts else {
                lane.cursor = next;
                continue;
            };
            let stored = Stored { head, priority, lane: number, sequence, before, topic, body };
            let is_sent = sequence <= lane.skip || send(&stored);
            if is_sent {
                (lane.cursor, lane.passed) = (next, sequence);
                lane.maybe_sent = lane.maybe_sent.max(sequence);
            }
            return Some(is_sent);
        }
    }

    /// Everything that is durable was sent.
    pub(super) fn is_all_sent(&self) -> bool {
        self.lanes.iter().all(Lane::is_all_sent)
    }

    /// Something was sent that is not confirmed.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.lanes.iter().any(|lane| lane.passed > lane.settled)
    }

    /// Messages that wait, about: sequences between the ends of the lanes.
    pub(super) fn waiting(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.newest.saturating_sub(lane.settled)).sum()
    }

    /// Everything up to here is settled.
    pub(super) fn settled(&self) -> u64 {
        let waiting = self.lanes.iter().filter(|lane| !lane.is_idle());
        waiting.map(|lane| lane.settled).min().unwrap_or(self.newest)
    }

    /// Starts a sync, or takes note of its end.
    pub(super) fn make_durable(&mut self) -> Result<(), LeafError> {
        let committed = self.log.commit().and_then(|()| self.log.poll());
        committed.map(|_| ()).map_err(|_| LeafError::ReadOnly)
    }
}

fn refused(error: AppendError) -> LeafError {
    match error {
        AppendError::Full => LeafError::Full,
        AppendError::TooLarge => LeafError::TooLarge,
        _ => LeafError::ReadOnly,
    }
}
