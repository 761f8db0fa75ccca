//! Restore: from what the log tells at a mount to the state before power went.
//!
//! Records come in log order and are played back as they happened; what is not live any more
//! at the end of the log is then swept. Nothing depends on declarations coming before their
//! messages: reclaim writes a declaration anew behind messages that are older, so entries are
//! taken for any queue id, and those of queues that are not declared at the end are dropped.

mod nouns;

use super::expire::UNKNOWN;
use super::meta::Meta;
use super::record::{kind, share_of, Head, Marks, Route};
use super::state::State;
use super::{lanes, Broker, Settings, Storage};
use crate::command::DedupKey;
use crate::fixed::Reader;
use crate::flash::{Flash, Geometry};
use crate::log::{Damage, Log, MountError, MountReport, Purpose, Restore, RestoreError};
use crate::model::entry::{Entry, Flag, STORE_MAX};
use crate::model::pages::Slot;
use crate::model::queue::Queue;
use crate::units::{At, Millis, Offset, Position, QueueId};

/// Why the broker could not start on a store.
pub type MountFailure = MountError;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    /// What the log found.
    pub log: MountReport,
    /// Log time to go on from.
    pub last: Millis,
    /// Durable queues, streams and groups.
    pub queues: u32,
    /// Messages in them, counted once for each queue.
    pub messages: u64,
}

impl<'a, F: Flash> Broker<'a, F> {
    /// Opens the store on a device, which must have been formatted by `Log::format`, as [`Broker::new`] and
    /// [`Broker::restore`] do together.
    pub fn mount(
        flash: F,
        storage: Storage<'a>,
        settings: Settings,
    ) -> Result<(Broker<'a, F>, Mounted), MountFailure> {
        let mut broker = Broker::new(flash, storage, settings)?;
        let mounted = broker.restore()?;
        Ok((broker, mounted))
    }

    /// A broker that knows nothing yet of what is on the device: [`Broker::restore`] it before anything else. It is
    /// large, and two steps let it be where it stays before the second: a small stack has no room for copies.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn new(flash: F, storage: Storage<'a>, settings: Settings) -> Result<Broker<'a, F>, MountFailure> {
        let Geometry { segment_size, segment_count, .. } = flash.geometry();
        if u64::from(segment_size) * u64::from(segment_count) > STORE_MAX {
            return Err(MountError::Unusable);
        }
        let (state, log_storage, mut options) = State::new(storage, settings.seed)?;
        options.read_only = settings.read_only;
        let log = Log::new(flash, log_storage, options)?;
        Ok(Broker {
            log,
            state,
            settings,
            now: Millis(0),
            urgent: false,
            lazy_since: None,
            owed: None,
            held_owed: 0,
            in_tx: false,
            anchored: Millis(0),
            purpose: Purpose::Keep,
            #[cfg(feature = "gateway")]
            queues_due: Millis::NEVER,
            #[cfg(feature = "gateway")]
            is_short: false,
        })
    }

    /// Takes over what is on the device. If that fails, the broker is of no use.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn restore(&mut self) -> Result<Mounted, MountFailure> {
        let Broker { log, state, settings, .. } = self;
        let mut player = Player {
            state,
            last: Millis(0),
            largest: 0,
            #[cfg(feature = "gateway")]
            assembly: Default::default(),
        };
        let report = log.restore(&mut player)?;
        let (last, largest) = (player.last.max(report.base), player.largest);
        state.drop_passed(log);
        // What the log says is gone is settled; what is swept the log tells again, and nothing may take its place.
        state.pages.forget_freed();
        let is_dropped = state.sweep();
        state.hold_all(log);
        if largest > log.max_record() && !settings.read_only {
            // It could be neither delivered nor moved.
            let found = state.find_live(|at| log.is_too_large(at));
            found.map_or(Ok(()), |at| {
                Err(MountError::Refused(at, RestoreError::Limit("max_message_bytes")))
            })?;
        }
        log.offer_from(Some(Position(0)).filter(|_| !state.dedup.is_empty()));
        let messages = state.live_count;
        let queues = state.queues.iter().filter(|(_, queue)| queue.is_live()).count() as u32;
        #[cfg(feature = "gateway")]
        {
            self.queues_due = state.queues_due();
        }
        self.set_now(last);
        if is_dropped {
            self.owe();
        }
        // What was copied is in doubt until it is synced, and would be copied again.
        self.urgent = self.log.tail() > self.log.durable();
        if self.urgent {
            self.doubt_exposed();
        }
        Ok(Mounted { log: report, last, queues, messages })
    }
}

/// Plays records back.
struct Player<'s, 'a> {
    state: &'s mut State<'a>,
    last: Millis,
    /// Bytes of the largest record.
    largest: u32,
    /// Pieces of a long declaration.
    #[cfg(feature = "gateway")]
    assembly: super::pieces::Assembly,
}

impl Restore for Player<'_, '_> {
    fn record(&mut self, at: At, record_kind: u8, digest: &[u8], size: u32) -> Result<(), RestoreError> {
        self.largest = self.largest.max(size);
        match self.play(at, record_kind, digest, size) {
            Err(RestoreError::Malformed) => {
                // It costs itself and not the whole store.
                self.state.counters.damaged += 1;
                log::error!("store: the record at {} makes no sense and is left out", at.0);
                Ok(())
            }
            played => played,
        }
    }

    fn passed(&mut self, from: At, to: At) {
        // Done in memory when reclaim passed it, and power went before that was written.
        for index in 0..self.state.queues.capacity() {
            if let Some(queue) = self.state.queues.get_mut(QueueId(index)) {
                if queue.stream().is_some() && queue.at.is_some_and(|at| at >= from && at < to) {
                    take_over(queue);
                }
            }
            self.state.remove_between(QueueId(index), from, to);
        }
    }

    fn damage(&mut self, damage: &Damage<'_>) {
        self.state.counters.damaged += 1;
        let routes = damage.record.and_then(|(record_kind, digest)| Some(Head::read(record_kind, digest)?.1));
        let Some(routes) = routes else {
            log::error!("store: {} bytes at {} are damaged and lost", damage.size, damage.at.0);
            return;
        };
        for route in routes {
            log::error!("store: queue {} offset {} is damaged and lost", route.queue.0, route.offset.0);
        }
    }
}

impl Player<'_, '_> {
    fn play(&mut self, at: At, record_kind: u8, digest: &[u8], size: u32) -> Result<(), RestoreError> {
        if record_kind & kind::MESSAGE != 0 {
            return self.message(at, record_kind, digest, size);
        }
        let mut reader = Reader::new(digest);
        match record_kind {
            kind::ACKS => self.acks(&mut reader),
            kind::RECEIVED => self.received(&mut reader),
            kind::EXPOSED => self.exposed(&mut reader),
            kind::RETURNED => self.returned(&mut reader),
            kind::META => self.declared(at, digest),
            _ => Err(RestoreError::Malformed),
        }
    }

    #[cfg(not(feature = "gateway"))]
    fn declared(&mut self, at: At, digest: &[u8]) -> Result<(), RestoreError> {
        self.meta(at, &Meta::read(digest).ok_or(RestoreError::Malformed)?)
    }

    /// A declaration, or a piece of one.
    #[cfg(feature = "gateway")]
    fn declared(&mut self, at: At, digest: &[u8]) -> Result<(), RestoreError> {
        if let Some(meta) = Meta::read(digest) {
            return self.meta(at, &meta);
        }
        let mut assembly = core::mem::take(&mut self.assembly);
        let outcome = match assembly.take(digest) {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(whole))) => {
                Meta::read(whole).ok_or(RestoreError::Malformed).and_then(|meta| self.meta(at, &meta))
            }
            None | Some(Err(())) => Err(RestoreError::Malformed),
        };
        self.assembly = assembly;
        outcome
    }

    fn message(&mut self, at: At, record_kind: u8, digest: &[u8], size: u32) -> Result<(), RestoreError> {
        let (head, mut routes) = Head::read(record_kind, digest).ok_or(RestoreError::Malformed)?;
        if let Some((queue, offset)) = head.removes {
            self.done(queue, offset, Offset(offset.0.saturating_add(1)))?;
        }
        if let Some(hash) = head.retained {
            self.state.retained.insert_hash(hash, at).map_err(|_| RestoreError::Limit("retained"))?;
        }
        if let Some((key, expires)) = head.dedup {
            self.key(key, expires)?;
        }
        let share = share_of(size, routes.count());
        while let Some(route) = routes.next() {
            if !route.transient {
                self.entry(at, &head, &route, share)?;
                self.marked(&route, &routes.marks);
            } else if let Some(queue) = self.state.queues.place_mut(route.queue) {
                // It is gone, and its offset was seen: a group may even have acknowledged it.
                queue.next = queue.next.max(Offset(route.offset.0.saturating_add(1)));
            }
        }
        Ok(())
    }

    fn entry(&mut self, at: At, head: &Head, route: &Route, share: u32) -> Result<(), RestoreError> {
        // A group has its stream's messages; this one is of a queue that had its id before.
        if self.state.queues.place(route.queue).is_some_and(|queue| queue.stream().is_some()) {
            return Ok(());
        }
        if let Some(slot) = self.state.find_entry(route.queue, route.offset) {
            self.moved(slot, at, head, route);
            return Ok(());
        }
        let queue = self.state.queues.place_mut(route.queue).ok_or(RestoreError::Limit("queues"))?;
        if route.offset < queue.born {
            return Ok(());
        }
        let mut entry = Entry::new(at, route.grade);
        entry.put(Flag::Exposed, route.exposed);
        entry.put(Flag::Timed, head.timed);
        entry.put(Flag::Delayed, head.timed && !queue.is_stream());
        if head.timed {
            entry.set_due(UNKNOWN);
        }
        let lane = if queue.is_live() { head.priority.min(queue.policy.max_priority) } else { 0 };
        if !queue.is_live() {
            lanes::set_priority(&mut entry, head.priority);
        }
        queue.laned |= lane > 0;
        queue.next = queue.next.max(Offset(route.offset.0.saturating_add(1)));
        queue.bytes = queue.bytes.saturating_add(u64::from(share));
        let inserted =
            self.state.pages.insert(&mut queue.roots, route.queue, lane, route.offset, entry, share);
        let slot = inserted.map_err(|_| RestoreError::Limit("entries"))?;
        if entry.is(Flag::Delayed) {
            queue.delayed += 1;
        } else {
            queue.ready += 1;
            self.state.pages.set_ready(&mut queue.roots, slot, true);
        }
        Ok(())
    }

    /// A copy says all that is to be known of a message: what was told before goes with the segments before,
    /// and it must make no difference whether a mount still finds them.
    fn moved(&mut self, slot: Slot, at: At, head: &Head, route: &Route) {
        let Some(entry) = self.state.pages.entry_mut(slot) else { return };
        entry.set_at(at);
        entry.put(Flag::Received, false);
        entry.put(Flag::Exposed, entry.is(Flag::Exposed) || route.exposed);
        self.state.pages.set_due(slot, if head.timed { UNKNOWN } else { Millis::NEVER });
        let waits = head.timed && !self.state.queues.place(route.queue).is_some_and(Queue::is_stream);
        self.came_back(route.queue, route.offset, 0, if waits { UNKNOWN } else { Millis(0) });
    }

    /// What a copy tells that marks told before it.
    fn marked(&mut self, route: &Route, marks: &Marks) {
        if marks.received {
            self.was_received(route.queue, route.offset);
        }
        if let Some((deliveries, due)) = marks.returned {
            self.came_back(route.queue, route.offset, deliveries, due);
        }
    }

    /// Takes an entry out as it was done.
    fn remove(&mut self, id: QueueId, offset: Offset) {
        let Some(slot) = self.state.find_entry(id, offset) else { return };
        self.state.remove_restored(id, slot);
    }

    fn acks(&mut self, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        let (id, first) = queue_and_offset(reader).ok_or(RestoreError::Malformed)?;
        let count = reader.varint().ok_or(RestoreError::Malformed)?;
        self.done(id, first, Offset(first.0.saturating_add(count)))
    }

    /// These offsets of a queue are done.
    fn done(&mut self, id: QueueId, first: Offset, end: Offset) -> Result<(), RestoreError> {
        self.fill_group(id, first)?;
        for offset in first.0..end.0 {
            self.remove(id, Offset(offset));
        }
        let Some(queue) = self.state.queues.place_mut(id) else { return Ok(()) };
        queue.next = queue.next.max(end);
        if queue.stream().is_some() {
            queue.first = self.state.pages.first_offset(&queue.roots).unwrap_or(queue.next);
        }
        Ok(())
    }

    /// What a group handed out before the offset that is acknowledged now is still pending.
    fn fill_group(&mut self, id: QueueId, upto: Offset) -> Result<(), RestoreError> {
        let Some(queue) = self.state.queues.get_mut(id).filter(|queue| queue.stream().is_some()) else {
            return Ok(());
        };
        while queue.next < upto {
            if self.state.pages.find(id, 0, queue.next).is_some() {
                queue.next = Offset(queue.next.0 + 1);
                continue;
            }
            let mut entry = Entry::new(At(0), crate::command::Grade::AtLeastOnce);
            entry.put(Flag::Exposed, true);
            let inserted = self.state.pages.insert(&mut queue.roots, id, 0, queue.next, entry, 0);
            let slot = inserted.map_err(|_| RestoreError::Limit("entries"))?;
            self.state.pages.set_ready(&mut queue.roots, slot, true);
            queue.ready += 1;
            queue.next = Offset(queue.next.0 + 1);
        }
        queue.first = self.state.pages.first_offset(&queue.roots).unwrap_or(queue.next);
        Ok(())
    }

    fn received(&mut self, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        let (id, offset) = queue_and_offset(reader).ok_or(RestoreError::Malformed)?;
        // A group handed it out, whatever else is known of that.
        self.fill_group(id, Offset(offset.0.saturating_add(1)))?;
        self.was_received(id, offset);
        Ok(())
    }

    fn was_received(&mut self, id: QueueId, offset: Offset) {
        let slot = self.state.find_entry(id, offset);
        if let Some(entry) = slot.and_then(|slot| self.state.pages.entry_mut(slot)) {
            entry.put(Flag::Received, true);
        }
    }

    fn exposed(&mut self, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        let (id, offset) = queue_and_offset(reader).ok_or(RestoreError::Malformed)?;
        if let Some(queue) = self.state.queues.place_mut(id) {
            match queue.stream() {
                Some(_) => take_over(queue),
                None => queue.exposed = queue.exposed.max(offset),
            }
        }
        Ok(())
    }

    fn returned(&mut self, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        let (id, offset) = queue_and_offset(reader).ok_or(RestoreError::Malformed)?;
        let deliveries = reader.varint().ok_or(RestoreError::Malformed)?;
        let due = Millis(reader.varint().ok_or(RestoreError::Malformed)?);
        // A group handed it out, whatever else is known of that.
        self.fill_group(id, Offset(offset.0.saturating_add(1)))?;
        self.came_back(id, offset, deliveries.min(255) as u8, due);
        Ok(())
    }

    fn came_back(&mut self, id: QueueId, offset: Offset, deliveries: u8, due: Millis) {
        let Some(slot) = self.state.find_entry(id, offset) else { return };
        let Some(queue) = self.state.queues.place_mut(id) else { return };
        let Some(entry) = self.state.pages.entry_mut(slot) else { return };
        lanes::set_deliveries(entry, deliveries);
        // Without a delay it was handed out since, so nothing that delayed it before does any more.
        let (waited, waits) = (entry.is(Flag::Delayed), due > Millis(0));
        entry.put(Flag::Delayed, waits);
        if waits && !waited {
            queue.delayed += 1;
            queue.ready = queue.ready.saturating_sub(1);
        } else if waited && !waits {
            queue.delayed = queue.delayed.saturating_sub(1);
            queue.ready += 1;
        }
        self.state.pages.set_ready(&mut queue.roots, slot, !waits);
        if due > Millis(0) {
            self.state.pages.set_due(slot, due);
        }
    }

    fn key(&mut self, key: DedupKey, expires: Millis) -> Result<(), RestoreError> {
        let is_held = matches!(key, DedupKey::Held { .. });
        let expires = if is_held { Millis::NEVER } else { expires };
        let limit = match key {
            DedupKey::Window(_) => RestoreError::Limit("dedup"),
            DedupKey::Held { .. } => RestoreError::Limit("held"),
            DedupKey::Sequence { .. } => RestoreError::Limit("producers"),
        };
        // The last publish of a key counts, but reclaim may have copied an earlier one behind it.
        let known = self.state.dedup.expiry(key);
        if known.is_some_and(|known| known < expires) {
            self.state.dedup.forget(key);
        }
        self.state.dedup.insert(key, expires).map_err(|_| limit)?;
        Ok(())
    }
}

/// The newest declaration of a group is the one that counts.
fn take_over(group: &mut Queue) {
    group.at = Some(At(group.settled.0));
}

fn queue_and_offset(reader: &mut Reader<'_>) -> Option<(QueueId, Offset)> {
    Some((QueueId(u16::try_from(reader.varint()?).ok()?), Offset(reader.varint()?)))
}

impl<'a> State<'a> {
    /// The entry of an offset, in whatever lane it is.
    pub(super) fn find_entry(&self, id: QueueId, offset: Offset) -> Option<Slot> {
        let queue = self.queues.place(id)?;
        let lanes = if queue.laned { 0..=crate::model::ready::MAX_LANE } else { 0..=0 };
        lanes.into_iter().find_map(|lane| self.pages.find(id, lane, offset))
    }

    /// Removes an entry while no log is there to be told.
    pub(super) fn remove_restored(&mut self, id: QueueId, slot: Slot) {
        let delayed = self.pages.entry(slot).is_some_and(|entry| entry.is(Flag::Delayed));
        let Some(queue) = self.queues.place_mut(id) else { return };
        match delayed {
            true => queue.delayed = queue.delayed.saturating_sub(1),
            false => queue.ready = queue.ready.saturating_sub(1),
        }
        let share = self.pages.remove(&mut queue.roots, slot, None);
        queue.bytes = queue.bytes.saturating_sub(u64::from(share));
    }

    /// Drops the entries whose records stand between two places.
    fn remove_between(&mut self, id: QueueId, from: At, to: At) {
        let mut kept = None;
        while let Some(slot) =
            self.queues.place(id).and_then(|queue| self.pages.next_live(&queue.roots, kept))
        {
            let at = self.pages.entry(slot).map_or(At(0), |entry| entry.at());
            let is_group = self.queues.place(id).is_some_and(|queue| queue.stream().is_some());
            if !is_group && at >= from && at < to {
                self.remove_restored(id, slot);
            } else {
                kept = Some(slot);
            }
        }
    }
}
