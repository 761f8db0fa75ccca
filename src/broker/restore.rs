//! Restore: from what the log tells at a mount to the state before power went.
//!
//! Records come in log order and are played back as they happened; what is not live any more
//! at the end of the log is then swept. Nothing depends on declarations coming before their
//! messages: reclaim writes a declaration anew behind messages that are older, so entries are
//! taken for any queue id, and those of queues that are not declared at the end are dropped.

mod keys;

use super::expire::UNKNOWN;
use super::meta::{BindingMeta, Meta, QueueMeta};
use super::record::{dedup_key, kind, share_of, Head, Route};
use super::state::State;
use super::{lanes, Broker, Settings, Storage};
use crate::command::DedupKey;
use crate::fixed::Reader;
use crate::flash::Flash;
use crate::log::{Damage, Log, MountError, MountReport, Purpose, Restore, RestoreError};
use crate::model::entry::{Entry, Flag};
use crate::model::key::Key;
use crate::model::queue::{Life, Queue};
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
    /// Opens the store on a device; it must have been formatted by `Log::format`.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn mount(
        flash: F,
        storage: Storage<'a>,
        settings: Settings,
    ) -> Result<(Broker<'a, F>, Mounted), MountFailure> {
        let (mut state, log_storage, mut options) = State::new(storage, settings.seed)?;
        options.read_only = settings.read_only;
        let mut player = Player { state: &mut state, last: Millis(0) };
        let mut opened = Log::mount(flash, log_storage, options, &mut player);
        let (log, report) = opened.as_mut().map_err(|error| *error)?;
        let last = player.last.max(report.base);
        state.drop_passed(log);
        state.sweep();
        state.hold_all(log);
        log.offer_from(Some(Position(0)).filter(|_| !state.dedup.is_empty()));
        let messages = state.live_count;
        let queues = state.queues.iter().filter(|(_, queue)| queue.is_live()).count() as u32;
        #[cfg(feature = "gateway")]
        let queues_due = match state.queues.iter().any(|(_, queue)| queue.tenancy.expires_ms > 0) {
            true => Millis(0),
            false => Millis::NEVER,
        };
        let (log, report) = opened?;
        let mut broker = Broker {
            log,
            state,
            settings,
            now: last,
            urgent: false,
            lazy_since: None,
            anchored: Millis(0),
            purpose: Purpose::Keep,
            #[cfg(feature = "gateway")]
            queues_due,
            #[cfg(feature = "gateway")]
            is_short: false,
        };
        broker.set_now(last);
        // What was copied is in doubt until it is synced, and would be copied again.
        broker.urgent = broker.log.unsynced();
        if broker.urgent {
            broker.doubt_exposed();
        }
        Ok((broker, Mounted { log: report, last, queues, messages }))
    }
}

impl<F: Flash> Broker<'_, F> {
    /// Marks of what may have been delivered are as much in doubt as the rest until the next sync: a
    /// backlog waits for it.
    fn doubt_exposed(&mut self) {
        let tail = self.log.tail();
        for index in 0..self.state.queues.capacity() {
            if let Some(queue) = self.state.queues.get_mut(QueueId(index)) {
                queue.exposed_at = tail;
            }
        }
    }
}

/// Plays records back.
struct Player<'s, 'a> {
    state: &'s mut State<'a>,
    last: Millis,
}

impl Restore for Player<'_, '_> {
    fn record(&mut self, at: At, record_kind: u8, digest: &[u8], size: u32) -> Result<(), RestoreError> {
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
            kind::META => {
                let meta = Meta::read(digest).ok_or(RestoreError::Malformed)?;
                self.meta(at, &meta)
            }
            _ => Err(RestoreError::Malformed),
        }
    }

    fn message(&mut self, at: At, record_kind: u8, digest: &[u8], size: u32) -> Result<(), RestoreError> {
        let (head, routes) = Head::read(record_kind, digest).ok_or(RestoreError::Malformed)?;
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
        for route in routes {
            if !route.transient {
                self.entry(at, &head, &route, share)?;
            } else if let Some(queue) = self.state.queues.place_mut(route.queue) {
                // It is gone, and its offset was seen: a group may even have acknowledged it.
                queue.next = queue.next.max(Offset(route.offset.0.saturating_add(1)));
            }
        }
        Ok(())
    }

    fn entry(&mut self, at: At, head: &Head, route: &Route, share: u32) -> Result<(), RestoreError> {
        if let Some(slot) = self.state.find_entry(route.queue, route.offset) {
            if let Some(entry) = self.state.pages.entry_mut(slot) {
                entry.set_at(at);
            }
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
        if let Some(slot) = self.state.find_entry(id, offset) {
            if let Some(entry) = self.state.pages.entry_mut(slot) {
                entry.put(Flag::Received, true);
            }
        }
        Ok(())
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
        let Some(slot) = self.state.find_entry(id, offset) else { return Ok(()) };
        let Some(queue) = self.state.queues.place_mut(id) else { return Ok(()) };
        let Some(entry) = self.state.pages.entry_mut(slot) else { return Ok(()) };
        lanes::set_deliveries(entry, deliveries.min(255) as u8);
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
        Ok(())
    }

    fn meta(&mut self, at: At, meta: &Meta<'_>) -> Result<(), RestoreError> {
        match *meta {
            Meta::Exchange(ref exchange) => {
                self.state.restore_exchange(exchange.id, exchange.name, exchange.options(), at)
            }
            Meta::ExchangeGone(id) => {
                self.state.forget_exchange(id);
                Ok(())
            }
            Meta::Queue(ref queue) => self.queue(at, queue),
            Meta::QueueGone(id) => {
                self.queue_gone(id);
                Ok(())
            }
            Meta::Binding(ref binding) => self.binding(at, binding),
            Meta::BindingGone(ref binding) => {
                self.state.unbind_meta(binding);
                Ok(())
            }
            Meta::RetainedGone(hash) => {
                self.state.retained.remove_hash(hash);
                Ok(())
            }
            Meta::Key(bits, expires) => self.key(dedup_key(bits), expires),
            Meta::KeyGone(bits) => {
                self.state.dedup.forget(dedup_key(bits));
                Ok(())
            }
            Meta::Producer(producer, epoch, sequence) => {
                self.key(DedupKey::Sequence { producer, epoch, sequence }, Millis::NEVER)
            }
            Meta::ProducerGone(producer) => {
                self.state.dedup.forget(DedupKey::Sequence { producer, epoch: 0, sequence: 0 });
                Ok(())
            }
            Meta::Anchor(time) => {
                self.last = self.last.max(time);
                Ok(())
            }
        }
    }

    /// A queue is gone, and the groups of a stream with it: their end is written behind its own and may
    /// be missing, and their ids may have been given to others since.
    fn queue_gone(&mut self, id: QueueId) {
        let may_be_stream = self.state.queues.get(id).is_none_or(Queue::is_stream);
        self.state.forget_queue(id);
        for group in (0..self.state.queues.capacity()).map(QueueId).filter(|_| may_be_stream) {
            if self.state.queues.get(group).and_then(Queue::stream) == Some(id) {
                self.state.forget_queue(group);
            }
        }
    }

    fn binding(&mut self, at: At, binding: &BindingMeta<'_>) -> Result<(), RestoreError> {
        let id = self.state.bind_meta(binding).map_err(RestoreError::Limit)?;
        self.state.bindings.set_at(id, Some(at));
        Ok(())
    }

    fn queue(&mut self, at: At, meta: &QueueMeta<'_>) -> Result<(), RestoreError> {
        let state = &mut *self.state;
        let hash = state.name_hash(meta.name);
        let place = state.queues.place(meta.id).ok_or(RestoreError::Limit("queues"))?;
        let is_new = !place.is_live();
        if is_new && matches!(meta.kind, crate::command::QueueKind::Group { .. }) {
            // A group has no messages of its own: these are of an earlier queue of its id.
            while let Some(slot) =
                state.queues.place(meta.id).and_then(|queue| state.pages.any_live(&queue.roots))
            {
                state.remove_restored(meta.id, slot);
            }
        }
        if is_new {
            let (policy, tenancy) =
                state.policy_of_meta(meta).map_err(|_| RestoreError::Limit("text_bytes"))?;
            let name = state
                .texts
                .store(Key::dots(meta.name.as_bytes()))
                .map_err(|_| RestoreError::Limit("text_bytes"))?;
            let queue = state.queues.place_mut(meta.id).ok_or(RestoreError::Limit("queues"))?;
            queue.life = Life::Live;
            queue.name = Some(name);
            queue.policy = policy;
            queue.tenancy = tenancy;
            queue.born = meta.born;
            state.queues.index(meta.id, hash);
            state.set_lanes(meta.id)?;
        }
        let Some(queue) = state.queues.place_mut(meta.id) else { return Ok(()) };
        let is_group = queue.stream().is_some();
        if is_group {
            queue.settled = Offset(at.0);
        }
        // The one before it stays in charge until all that is pending was written behind this one: power may
        // have gone before, and reclaim would pass over what the one before it stands for.
        if is_new || !is_group || meta.exposed == Offset(0) {
            queue.at = Some(at);
        }
        queue.next = queue.next.max(meta.next);
        queue.exposed = queue.exposed.max(meta.exposed);
        queue.first = queue.first.max(meta.first);
        if is_group && is_new {
            // Acknowledgements that came before it told nothing of what is pending.
            queue.next = meta.next;
        }
        state.drop_below(meta.id, meta.born);
        state.link_group(meta.id);
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
    pub(super) fn find_entry(&self, id: QueueId, offset: Offset) -> Option<crate::model::pages::Slot> {
        let queue = self.queues.place(id)?;
        let lanes = if queue.laned { 0..=crate::model::ready::MAX_LANE } else { 0..=0 };
        lanes.into_iter().find_map(|lane| self.pages.find(id, lane, offset))
    }

    /// Removes an entry while no log is there to be told.
    pub(super) fn remove_restored(&mut self, id: QueueId, slot: crate::model::pages::Slot) {
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

    /// Drops the entries of an earlier queue of the same id.
    fn drop_below(&mut self, id: QueueId, born: Offset) {
        let mut from = None;
        while let Some(slot) =
            self.queues.place(id).and_then(|queue| self.pages.next_live(&queue.roots, from))
        {
            let old = self.pages.owner(slot).is_some_and(|(_, offset)| offset < born);
            if !old {
                return;
            }
            self.remove_restored(id, slot);
            from = None;
        }
    }
}
