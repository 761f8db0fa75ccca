//! Publish: admit, recognise, route, append, enter into queues.
//!
//! Nothing is changed before everything that can refuse has been asked: the limits of every
//! destination, a page for every entry, room in the log. A message nobody has to keep is
//! handed to its consumers straight from the publisher's buffer and touches neither the log
//! nor a queue; where a consumer cannot take it now, it is stored like any other and the
//! consumer's queue keeps the order.

use super::declare::append_meta;
use super::meta::Meta;
use super::record::{
    share_of, write_digest, write_key_length, write_tail, Head, Marks, Route, Stamp, STAMP_MAX, TAIL_MAX,
};
use super::state::State;
use super::storage::RETAINED_SEED;
use super::{refusal_of, Broker};
use crate::command::{DedupKey, Delivery, Grade, Offer, Outlet, Publish, Refusal, Reply};
use crate::fixed::Writer;
use crate::flash::Flash;
use crate::log::{Purpose, DIGEST_MAX};
use crate::model::entry::{Entry, Flag};
use crate::model::hash::hash_key;
use crate::model::key::Key;
use crate::model::router::Keys;
use crate::units::{At, ConsumerId, Millis, Offset, Position, QueueId};
use core::ops::Range;

/// Bytes of a record besides key, headers, body and routes, about.
const RECORD_OVERHEAD: u64 = 16;
/// Bytes of one route, about.
const ROUTE_SIZE: u64 = 6;
/// Most routes in one record, so that its digest fits at their longest; a message for more
/// queues is stored once for each so many.
pub(super) const ROUTES_MAX: usize = 16;

/// Pieces a message is appended in at most.
const PARTS_MAX: usize = 4 + if cfg!(feature = "gateway") { 5 } else { 1 };

/// A message to be appended.
pub(super) struct Content<'m, const N: usize> {
    /// Its key.
    pub key: Key<'m>,
    /// Its headers, in pieces.
    pub headers: [&'m [u8]; N],
    /// Its body.
    pub body: &'m [u8],
}

impl<F: Flash> Broker<'_, F> {
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn publish(
        &mut self,
        publish: &Publish<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply, Refusal> {
        let outcome = self.accept(publish, outlet);
        #[cfg(feature = "gateway")]
        if outcome == Err(Refusal::QueueFull) {
            self.bury_refused(publish);
        }
        outcome
    }

    fn accept(&mut self, publish: &Publish<'_>, outlet: &mut dyn Outlet) -> Result<Reply, Refusal> {
        let is_read_only = self.log.read_only();
        if is_read_only && publish.durable {
            return Err(Refusal::ReadOnly);
        }
        // What nobody asked to be kept still goes to those who are there.
        let publish = &Publish { retain: publish.retain && !is_read_only, ..*publish };
        let dedup = self.dedup_of(publish);
        if dedup.is_some() {
            self.state.dedup.expire(self.now);
        }
        if dedup.is_some_and(|(key, _)| self.state.dedup.contains(key)) {
            self.state.counters.duplicates += 1;
            let confirm_at = self.make_durable();
            return Ok(Reply::Published { confirm_at, routed: 0, duplicate: true });
        }
        let routed = self.route(publish)?;
        if self.state.is_source_internal() {
            return Err(Refusal::NotAllowed);
        }
        let found = routed;
        #[cfg(feature = "gateway")]
        let (routed, dedup) = {
            let routed = self.drop_known(publish, routed);
            (routed, dedup.or(self.first_identity(publish, routed)))
        };
        let certain = self.state.sort_routes(publish, routed);
        let keeps = publish.retain || dedup.is_some();
        if certain > 0 || keeps {
            self.admit(publish, certain)?;
        }
        let mut stored = self.hand_over_directly(publish, certain, routed, outlet)?;
        self.state.counters.published += 1;
        let mut confirm_at = Position(0);
        if stored > 0 || keeps {
            match self.store(publish, stored, dedup) {
                Ok(position) => confirm_at = position,
                // What somebody has got already cannot be refused.
                Err(_) if stored < routed && !publish.durable && !keeps => {
                    self.state.counters.dropped += stored as u64;
                    stored = 0;
                }
                Err(refusal) => return Err(refusal),
            }
            self.trim_queues(publish, stored);
        }
        if found > routed {
            // Where it is known it may not be on flash yet.
            confirm_at = self.make_durable();
        }
        Ok(Reply::Published { confirm_at, routed: found as u16, duplicate: false })
    }

    /// Fills the table of routes; returns how many there are.
    pub(super) fn route(&mut self, publish: &Publish<'_>) -> Result<usize, Refusal> {
        let message = &publish.message;
        let keys = Keys {
            own: message.key,
            #[cfg(feature = "gateway")]
            more: publish.more_keys,
        };
        let count = self.state.collect_routes(publish.exchange, keys, message.headers)?;
        for route in self.state.routes.iter_mut().take(count) {
            route.grade = route.grade.min(publish.grade);
        }
        Ok(count)
    }

    /// Hands a message that need not be kept to consumers that can take it now, for the routes
    /// from `certain` on. Returns how many routes remain to be stored, at the front.
    fn hand_over_directly(
        &mut self,
        publish: &Publish<'_>,
        certain: usize,
        routed: usize,
        outlet: &mut dyn Outlet,
    ) -> Result<usize, Refusal> {
        let mut stored = certain;
        for place in certain..routed {
            let Some(route) = self.state.routes.get(place).copied() else { break };
            if self.needs_no_storing(publish, &route, outlet) {
                continue;
            }
            if let Some(to) = self.state.routes.get_mut(stored) {
                *to = route;
                stored += 1;
            }
        }
        if stored == certain {
            return Ok(certain);
        }
        match self.admit(publish, stored) {
            Ok(()) => Ok(stored),
            // Nobody asked for these to be kept: they are dropped where there is no room. Nor can what
            // somebody has got already be refused.
            Err(_) if publish.grade == Grade::AtMostOnce || stored < routed => {
                self.state.counters.dropped += (stored - certain) as u64;
                Ok(certain)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Tries to be done with a route that is not certain to be stored.
    pub(super) fn needs_no_storing(
        &mut self,
        publish: &Publish<'_>,
        route: &Route,
        outlet: &mut dyn Outlet,
    ) -> bool {
        let Some(queue) = self.state.queues.get_mut(route.queue) else { return true };
        let fleeting = queue.is_fleeting(route.grade);
        if queue.consumer_count == 0 {
            return fleeting;
        }
        let in_order = if fleeting { queue.fleeting == 0 } else { queue.ready == 0 };
        if !in_order {
            return false;
        }
        let serving = queue.tenancy.serving();
        while let Some(id) = self.state.consumers.next_with_credit(&mut queue.consumers, serving) {
            let Some(consumer) = self.state.consumers.get_mut(id) else { return false };
            if !fleeting && !consumer.no_ack {
                return false;
            }
            let delivery = direct_delivery(publish, id, consumer.owner, route, self.now);
            if outlet.deliver(&delivery) == Offer::Taken {
                self.state.counters.delivered += 1;
                return true;
            }
            consumer.paused = true;
        }
        false
    }

    /// Asks everything that can refuse.
    pub(super) fn admit(&mut self, publish: &Publish<'_>, stored: usize) -> Result<(), Refusal> {
        if self.log.read_only() {
            return Err(Refusal::ReadOnly);
        }
        let size = publish.message.size();
        let total = size as u64 + DIGEST_MAX as u64 + STAMP_MAX as u64;
        if total > u64::from(self.state.max_record) {
            return Err(Refusal::TooLarge);
        }
        let records = stored.div_ceil(ROUTES_MAX).max(1) as u64;
        let total = (size as u64 + RECORD_OVERHEAD).saturating_mul(records) + stored as u64 * ROUTE_SIZE;
        if self.bytes_needed(stored as u64).saturating_add(total) > self.log.capacity_bytes() {
            return Err(Refusal::StoreFull);
        }
        for place in 0..stored {
            let Some(route) = self.state.routes.get(place).copied() else { break };
            if !self.may_enter(publish.message.body.len(), &route) {
                return Err(Refusal::QueueFull);
            }
        }
        if !self.make_room_for(stored, publish.priority) {
            return Err(Refusal::Limit("entries"));
        }
        Ok(())
    }

    /// Whether there are pages for an entry of this priority in each of the first `count` routes.
    pub(super) fn make_room_for(&mut self, count: usize, priority: u8) -> bool {
        let needed = new_pages(&self.state, count, priority);
        needed == 0 || self.has_pages(needed)
    }

    /// Whether so many pages can be taken. One that was freed by acknowledgements which are not written yet is
    /// taken only behind them: a restart plays back what is in the log, in its order, and needs as many pages then.
    pub(super) fn has_pages(&mut self, needed: u32) -> bool {
        if needed > self.state.pages.settled_count() {
            self.write_runs();
        }
        needed <= self.state.pages.settled_count()
    }

    /// Appends the record and enters it into its queues. Returns when to confirm.
    pub(super) fn store(
        &mut self,
        publish: &Publish<'_>,
        stored: usize,
        dedup: Option<(DedupKey, Millis)>,
    ) -> Result<Position, Refusal> {
        let stamp =
            Stamp { published: self.now, ttl_ms: publish.ttl_ms, delay_ms: publish.delay_ms.unwrap_or(0) };
        let forgets = publish.retain && publish.message.body.is_empty();
        let hash = hash_key(RETAINED_SEED, publish.message.key);
        let head = Head {
            timed: stamp.is_timed(),
            replayed: false,
            priority: publish.priority.min(9),
            retained: (publish.retain && !forgets).then_some(hash),
            dedup: dedup.filter(|&(key, _)| publish.durable && self.outlasts_a_restart(key)),
            removes: None,
        };
        if head.retained.is_some() && !self.state.retained.has_room(hash) {
            return Err(Refusal::Limit("retained"));
        }
        if let Some((key, _)) = dedup {
            if self.state.dedup.is_empty() {
                // Nobody holds the record of a key, so reclaim has to come upon it.
                self.log.offer_from(Some(self.log.tail()));
            }
            self.state.dedup.check_room(key).map_err(|limit| Refusal::Limit(limit.0))?;
            let is_held = matches!(key, DedupKey::Held { .. });
            if is_held && self.state.dedup.held_room() <= self.held_owed && self.owes() {
                return Err(Refusal::Limit("dedup held"));
            }
        }
        self.append_parts(publish, stored, &head, &stamp, hash)?;
        if let Some((key, expires)) = dedup {
            self.state.dedup.insert(key, expires).map_err(|limit| Refusal::Limit(limit.0))?;
        }
        #[cfg(feature = "gateway")]
        self.remember(publish, stored);
        Ok(self.confirm_at(publish))
    }

    /// Appends as many records as the routes need, and the end of a retained value before them. The dedup key stands
    /// in the last: in the first it would make known what is not in all its queues, if power went between the two.
    fn append_parts(
        &mut self,
        publish: &Publish<'_>,
        stored: usize,
        head: &Head,
        stamp: &Stamp,
        hash: u64,
    ) -> Result<(), Refusal> {
        let forgets = publish.retain && head.retained.is_none();
        if forgets && stored > 0 {
            // What is refused forgets nothing.
            let size = (publish.message.size() + DIGEST_MAX + STAMP_MAX) as u32;
            self.log.prepare(size, Purpose::Publish).map_err(refusal_of)?;
        }
        if forgets && self.state.retained.get_hash(hash).is_some() {
            append_meta(&mut self.log, self.state.scratch, &Meta::RetainedGone(hash), self.purpose)?;
        }
        self.number_routes(publish, stored);
        if stored == 0 && head.retained.is_none() && head.dedup.is_none() {
            self.set_retained(publish.retain, hash, None);
            return Ok(());
        }
        let mut part = Head { dedup: None, ..*head };
        for from in (0..stored.max(1)).step_by(ROUTES_MAX) {
            let to = stored.min(from.saturating_add(ROUTES_MAX));
            part.dedup = head.dedup.filter(|_| to == stored);
            let at = self.append_message(publish, from, to, &part, stamp)?;
            if from == 0 {
                self.set_retained(publish.retain, hash, Some(at).filter(|_| !forgets));
                part.retained = None;
            }
        }
        Ok(())
    }

    fn confirm_at(&mut self, publish: &Publish<'_>) -> Position {
        match publish.durable {
            true => self.make_durable(),
            false => Position(0),
        }
    }

    /// Gives every route its offset and says what a restart makes of it.
    pub(super) fn number_routes(&mut self, publish: &Publish<'_>, stored: usize) {
        for route in self.state.routes.iter_mut().take(stored) {
            if let Some(queue) = self.state.queues.get(route.queue) {
                route.offset = queue.next;
                // A stream that is durable keeps everything: readers go on from an offset, which may not come twice.
                let is_asked = publish.durable || queue.is_stream();
                route.transient = !is_asked || !queue.policy.durable || queue.is_fleeting(route.grade);
                route.exposed = queue.has_readers();
            }
        }
    }

    /// Appends a message for a range of the routes and enters it into their queues.
    fn append_message(
        &mut self,
        publish: &Publish<'_>,
        from: usize,
        to: usize,
        head: &Head,
        stamp: &Stamp,
    ) -> Result<At, Refusal> {
        let message = &publish.message;
        let content = Content { key: message.key, headers: [message.headers], body: message.body };
        self.append_content(&content, from..to, head, stamp)
    }

    /// The same for a message whose headers are in pieces.
    pub(super) fn append_content<const N: usize>(
        &mut self,
        content: &Content<'_, N>,
        places: Range<usize>,
        head: &Head,
        stamp: &Stamp,
    ) -> Result<At, Refusal> {
        let Range { start: from, end: to } = places;
        let routes = self.state.routes.iter().take(to).skip(from).map(|route| (*route, Marks::default()));
        let digest = write_digest(self.state.scratch, head, routes).ok_or(Refusal::TooLarge)?;
        let headers_size =
            content.headers.iter().fold(0, |sum: usize, piece| sum.saturating_add(piece.len()));
        let content_size = content.key.text.len() + headers_size + content.body.len();
        let size = (digest.len() + content_size + STAMP_MAX) as u32;
        let base = self.log.prepare(size, Purpose::Publish).map_err(refusal_of)?;
        let mut buffer = [0; STAMP_MAX];
        let mut writer = Writer::new(&mut buffer);
        stamp.write(base, &mut writer);
        let (exchange, form) = (self.state.source, content.key.form);
        write_key_length(&mut writer, content.key.text.len(), form, exchange, headers_size);
        let front = writer.finish().ok_or(Refusal::TooLarge)?;
        let mut tail = [0; TAIL_MAX];
        let mut writer = Writer::new(&mut tail);
        write_tail(&mut writer, form, exchange, headers_size);
        let tail = writer.finish().ok_or(Refusal::TooLarge)?;
        let mut parts = [&[][..]; PARTS_MAX];
        let pieces = [front, content.key.text, tail].into_iter().chain(content.headers).chain([content.body]);
        parts.iter_mut().zip(pieces).for_each(|(part, piece)| *part = piece);
        let parts = parts.get(..N + 4).ok_or(Refusal::TooLarge)?;
        let size = parts.iter().fold(digest.len(), |sum, part| sum.saturating_add(part.len())) as u32;
        let at = self.log.append(head.kind(), digest, parts, Purpose::Publish).map_err(refusal_of)?;
        self.enter_routes(from, to, at, size, head, stamp);
        Ok(at)
    }

    /// Enters a stored message whose record has so many bytes into the queues of a range of the routes.
    pub(super) fn enter_routes(
        &mut self,
        from: usize,
        to: usize,
        at: At,
        size: u32,
        head: &Head,
        stamp: &Stamp,
    ) {
        let share = share_of(size, to.saturating_sub(from));
        for place in from..to {
            let Some(route) = self.state.routes.get(place).copied() else { return };
            self.enter(&route, at, head, stamp, share);
        }
    }

    fn enter(&mut self, route: &Route, at: At, head: &Head, stamp: &Stamp, share: u32) {
        let now = self.now;
        let Some(queue) = self.state.queues.get_mut(route.queue) else { return };
        let lane = head.priority.min(queue.policy.max_priority);
        let mut entry = Entry::new(at, route.grade);
        entry.put(Flag::Transient, route.transient);
        entry.put(Flag::Timed, stamp.is_timed());
        let delayed = stamp.delay_ms > 0 && stamp.ready_at() > now && !queue.is_stream();
        entry.put(Flag::Delayed, delayed);
        let due = if delayed { stamp.ready_at() } else { queue.expiry(stamp.published, stamp.ttl_ms) };
        entry.set_due(due);
        let offset = queue.next;
        let inserted = self.state.pages.insert(&mut queue.roots, route.queue, lane, offset, entry, share);
        let Ok(slot) = inserted else { return };
        queue.next = Offset(offset.0 + 1);
        queue.bytes = queue.bytes.saturating_add(u64::from(share));
        if queue.is_fleeting(route.grade) {
            queue.fleeting += 1;
        }
        self.state.live_bytes += u64::from(share);
        self.state.live_count += 1;
        self.log.hold(at);
        if delayed {
            queue.delayed += 1;
            return;
        }
        queue.ready += 1;
        if queue.is_stream() {
            self.note_stream(route.queue);
            return;
        }
        self.state.pages.set_ready(&mut queue.roots, slot, true);
        if queue.consumer_count > 0 {
            self.state.queues.make_runnable(route.queue);
        }
    }

    /// A stream has grown: its groups may go on, and its oldest may have to go. In a transaction that comes behind the
    /// end, since one that is refused must not have pushed out anything.
    fn note_stream(&mut self, id: QueueId) {
        if !self.in_tx {
            self.trim_stream(id);
        }
        let mut group = self.state.queues.get(id).map(|queue| QueueId(queue.group));
        while let Some(next) = group.and_then(|id| self.state.queues.get(id).map(|queue| (id, queue.group))) {
            self.state.queues.make_runnable(next.0);
            group = Some(QueueId(next.1));
        }
    }
}

/// Pages that an entry of this priority in each of the first `count` routes needs.
fn new_pages(state: &State<'_>, count: usize, priority: u8) -> u32 {
    let new_pages = state.routes.iter().take(count).filter(|route| {
        state.queues.get(route.queue).is_some_and(|queue| {
            let lane = priority.min(queue.policy.max_priority);
            !state.pages.has_page(&queue.roots, route.queue, lane, queue.next)
        })
    });
    new_pages.count() as u32
}

fn direct_delivery<'m>(
    publish: &Publish<'m>,
    consumer: ConsumerId,
    owner: u64,
    route: &Route,
    now: Millis,
) -> Delivery<'m> {
    Delivery {
        consumer,
        owner,
        queue: route.queue,
        exchange: publish.exchange,
        offset: None,
        tag: None,
        grade: route.grade,
        redelivered: false,
        received: false,
        retained: false,
        delivery_count: 0,
        published: now,
        message: publish.message,
    }
}
