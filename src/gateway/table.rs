//! The table of connections, and the outlet through which the broker reaches them.
//!
//! A connection is named by its place and the generation of the place, in one number: that is the
//! `owner` of its consumers and its token in the poller. A number that is out of date finds nothing.
//!
//! Deliveries are put into outboxes and sent at the end of the turn, one write a connection, so
//! that a hundred publishers to one subscriber cost few writes; an outbox that reached
//! [`FLUSH_BYTES`] is sent at once, while it is still in the cache. A transient message that goes to
//! many is encoded once for each dialect and copied.
//!
//! Limits: `connections.count`, `connections.buffers`, `connections.high_mark`.

use crate::command::{Delivery, Offer, Outlet};
use crate::protocol::{About, Dialect, WriteDirect};
use crate::units::{ConsumerId, Millis};

use super::buffers::Buffers;
use super::pressure::Pressure;
use super::slot::{Flushed, Slot};
use super::stream::Stream;

/// Bits of a generation: tokens with the highest bit set are not connections.
pub const GENERATION_MASK: u32 = 0x7fff_ffff;

/// An outbox that holds this much is sent without waiting for the end of the turn.
const FLUSH_BYTES: usize = 64 * 1024;

/// Places kept beyond the limit of connections for the control socket.
pub const RESERVED_COUNT: u32 = 4;

/// The frame of the message that is being published, in each dialect it was needed in.
#[derive(Default)]
struct FrameCache {
    is_open: bool,
    mqtt311: Vec<u8>,
    mqtt5: Vec<u8>,
}

/// Frames longer than this are not kept in memory for the next publish.
const CACHED_BYTES: usize = 64 * 1024;

impl FrameCache {
    /// The frame of a delivery; while a publish lasts it is encoded once.
    fn frame(&mut self, write: WriteDirect, dialect: Dialect, delivery: &Delivery<'_>) -> &[u8] {
        let frame = match dialect {
            Dialect::Mqtt311 => &mut self.mqtt311,
            Dialect::Mqtt5 => &mut self.mqtt5,
        };
        if !self.is_open {
            frame.clear();
        }
        if frame.is_empty() {
            write(dialect, delivery, frame);
        }
        frame
    }

    fn reset(&mut self, is_open: bool) {
        self.is_open = is_open;
        for frame in [&mut self.mqtt311, &mut self.mqtt5] {
            frame.clear();
            frame.shrink_to(CACHED_BYTES);
        }
    }
}

/// All connections.
pub struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Buffers of the connections.
    pub buffers: Buffers,
    /// Time of this turn.
    pub now: Millis,
    dirty: Vec<u32>,
    gone: Vec<u64>,
    retry: Vec<ConsumerId>,
    /// Consumers of the session at work that are gone with their queue.
    cancelled: Vec<ConsumerId>,
    pressure: Pressure,
    cache: FrameCache,
    taken: u32,
    write_direct: WriteDirect,
}

impl Table {
    /// A table for this many connections.
    pub fn new(count: u32, buffers: Buffers, write_direct: WriteDirect) -> Table {
        let count = count.saturating_add(RESERVED_COUNT);
        let mut slots = Vec::new();
        slots.resize_with(count as usize, Slot::default);
        Table {
            slots,
            free: (0..count).rev().collect(),
            buffers,
            now: Millis(0),
            dirty: Vec::new(),
            gone: Vec::new(),
            retry: Vec::new(),
            cancelled: Vec::new(),
            pressure: Pressure::default(),
            cache: FrameCache::default(),
            taken: 0,
            write_direct,
        }
    }

    /// Bytes of one place.
    pub const fn slot_size() -> usize {
        std::mem::size_of::<Slot>()
    }

    /// Most connections, without the places for the control socket.
    pub fn limit(&self) -> u32 {
        (self.slots.len() as u32).saturating_sub(RESERVED_COUNT)
    }

    /// Places that are taken.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Places that `reserved` leaves to take.
    pub fn has_room(&self, reserved: u32) -> bool {
        self.free.len() > reserved as usize
    }

    /// Takes a place for a stream; the caller fills in the session.
    pub fn insert(&mut self, stream: Stream) -> Result<u32, Stream> {
        let now = self.now;
        let Some(index) = self.free.pop() else { return Err(stream) };
        let Some(slot) = self.slots.get_mut(index as usize) else { return Err(stream) };
        slot.stream = Some(stream);
        slot.opened = now;
        slot.progressed = now;
        Ok(index)
    }

    /// Frees a place.
    pub fn remove(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize).filter(|slot| slot.stream.is_some()) {
            slot.clear(&mut self.buffers);
            self.free.push(index);
        }
    }

    /// The connection in a place.
    pub fn slot(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize).filter(|slot| slot.stream.is_some())
    }

    /// A place, taken or not: whoever takes it off a list clears the flag that says it is on it, also
    /// when the connection is gone meanwhile, or the next one there would never be listed again.
    pub fn place(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)
    }

    /// The connection in a place, with the buffers.
    pub fn slot_and_buffers(&mut self, index: u32) -> Option<(&mut Slot, &mut Buffers)> {
        let slot = self.slots.get_mut(index as usize).filter(|slot| slot.stream.is_some())?;
        Some((slot, &mut self.buffers))
    }

    /// The number of the connection in a place.
    pub fn owner(&self, index: u32) -> u64 {
        self.slots.get(index as usize).map_or(0, |slot| slot.owner(index))
    }

    /// The place of a connection, if it is still there.
    pub fn find(&self, owner: u64) -> Option<u32> {
        let index = owner as u32;
        let slot = self.slots.get(index as usize)?;
        (slot.stream.is_some() && slot.owner(index) == owner).then_some(index)
    }

    /// Every place that is taken.
    pub fn indexes(&self) -> impl Iterator<Item = u32> + '_ {
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.stream.is_some());
        taken.map(|(index, _)| index as u32)
    }

    /// What every connection says of itself.
    pub fn abouts(&self) -> impl Iterator<Item = About> + '_ {
        self.slots.iter().filter_map(|slot| Some(slot.session.as_ref()?.about()))
    }

    /// Puts a connection on the list of those that have something to send.
    pub fn mark_dirty(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            if !slot.is_dirty {
                slot.is_dirty = true;
                self.dirty.push(index);
            }
        }
    }

    /// A transient message was not handed over to all it was routed to.
    pub fn suspect_pressure(&mut self) {
        self.pressure.suspect(&self.slots, self.now);
    }

    /// Notes whether the connection that was just served publishes faster than somebody takes it;
    /// if so it is held, and true.
    pub fn hold_if_ahead(&mut self, index: u32) -> bool {
        let is_ahead = self.pressure.take_met(&self.slots, self.now);
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.is_held = is_ahead;
            slot.is_slowed = is_ahead;
        }
        if is_ahead {
            self.pressure.hold(index, self.now);
        }
        is_ahead
    }

    /// Connections whose hold is over. `is_behind`: the broker has more to hand out.
    pub fn release_held(&mut self, is_behind: bool) -> Vec<u32> {
        let released = self.pressure.release(&self.slots, self.now, is_behind);
        for index in &released {
            if let Some(slot) = self.slots.get_mut(*index as usize) {
                slot.is_held = false;
            }
        }
        released
    }

    /// When the next hold is over.
    pub fn poll_timeout(&self) -> Millis {
        self.pressure.poll_timeout()
    }

    /// A publish begins (or ends): frames encoded from here on are of one message. Returns how many
    /// deliveries were taken since it began.
    pub fn set_publishing(&mut self, is_publishing: bool) -> u32 {
        self.cache.reset(is_publishing);
        std::mem::take(&mut self.taken)
    }

    /// Sends what is to be sent. Returns whether consumers may go on.
    pub fn flush_dirty(&mut self) -> bool {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.is_dirty = false;
            }
            self.flush(index);
        }
        self.dirty = dirty;
        !self.retry.is_empty()
    }

    /// Sends what one connection has, unless its stream takes none.
    pub fn flush(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.stream.is_none() || slot.is_blocked {
            return;
        }
        let flushed = slot.flush(&mut self.buffers, self.now);
        let ends = flushed == Flushed::Gone || (flushed == Flushed::Drained && slot.is_closing);
        if ends {
            let owner = slot.owner(index);
            self.gone.push(owner);
        } else if !slot.paused.is_empty() && slot.pending() <= self.buffers.low_mark() {
            self.retry.append(&mut slot.paused);
        }
    }

    /// A connection whose stream failed or which has sent its last byte.
    pub fn pop_gone(&mut self) -> Option<u64> {
        self.gone.pop()
    }

    /// A consumer of the session at work that ended.
    pub fn pop_cancelled(&mut self) -> Option<ConsumerId> {
        self.cancelled.pop()
    }

    /// A consumer that may go on.
    pub fn pop_retry(&mut self) -> Option<ConsumerId> {
        self.retry.pop()
    }
}

impl Outlet for Table {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        let index = delivery.owner as u32;
        let found = self.slots.get_mut(index as usize).filter(|slot| slot.takes(delivery.owner));
        let Some(slot) = found else { return Offer::Busy };
        let size = delivery.message.body.len();
        let mark = FLUSH_BYTES.min(self.buffers.high_mark());
        if slot.pending() + size > mark && !slot.make_space(size, &mut self.buffers, self.now) {
            slot.pause(delivery.consumer);
            return Offer::Busy;
        }
        let is_transient = delivery.tag.is_none() && delivery.offset.is_none();
        if is_transient && slot.is_blocked {
            self.pressure.meet(index);
        }
        let offer = if let Some(direct) = slot.direct.filter(|_| is_transient) {
            let frame = self.cache.frame(self.write_direct, direct.dialect, delivery);
            if frame.len() <= direct.max_frame_size as usize {
                slot.append(frame, &mut self.buffers, self.now);
            }
            self.taken = self.taken.wrapping_add(1);
            Offer::Taken
        } else if let Some(mut session) = slot.session.take() {
            let offer =
                slot.write(&mut self.buffers, self.now, |outbox| session.handle_delivery(delivery, outbox));
            slot.session = Some(session);
            offer
        } else {
            // Its session is the one that is at work: it gets the message when that is over.
            self.retry.push(delivery.consumer);
            return Offer::Busy;
        };
        if !slot.is_dirty {
            slot.is_dirty = true;
            self.dirty.push(index);
        }
        offer
    }

    fn cancelled(&mut self, owner: u64, consumer: ConsumerId) {
        self.retry.retain(|other| *other != consumer);
        let Some(index) = self.find(owner) else { return };
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.paused.retain(|other| *other != consumer);
        if slot.is_closing {
            return;
        }
        // Its session is the one that is at work: it asks when it has time.
        let Some(mut session) = slot.session.take() else { return self.cancelled.push(consumer) };
        slot.write(&mut self.buffers, self.now, |outbox| session.handle_cancelled(consumer, outbox));
        slot.session = Some(session);
        self.mark_dirty(index);
    }
}
