//! One connection: its stream, its session, and what it has not sent yet.
//!
//! ```text
//! stream -> shared read buffer -> session -> outbox -> stream
//!                  \-> rest (a frame that is not whole yet)
//! ```
//! Invariant: `outbox` and `rest` have no capacity unless they hold something, but for the time a
//! session is at work on them; so an idle connection costs its slot, its session and its socket.

use crate::protocol::{Direct, Session};
use crate::units::{ConsumerId, Millis};

use super::buffers::Buffers;
use super::stream::Stream;

/// A stream that took everything for this long is not slow any more.
const CALM_MS: u64 = 100;

/// What a write to the stream came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing is left to send.
    Drained,
    /// The peer takes no more for now.
    Blocked,
    /// The stream failed.
    Gone,
}

/// A place in the table of connections.
#[derive(Default)]
pub struct Slot {
    /// Told apart from earlier connections in this place by it.
    pub generation: u32,
    /// The stream; none if the place is free.
    pub stream: Option<Stream>,
    /// The protocol; none while it is at work, or when only the outbox is to be sent.
    pub session: Option<Box<dyn Session>>,
    /// Bytes for the peer, of which `sent` are gone.
    pub outbox: Vec<u8>,
    /// The beginning of a frame.
    pub rest: Vec<u8>,
    /// How to write to it while its session is at work.
    pub direct: Option<Direct>,
    /// Consumers that were told to wait because the outbox was full.
    pub paused: Vec<ConsumerId>,
    /// When it connected.
    pub opened: Millis,
    /// When the peer last took bytes, or the first bytes were put into an empty outbox.
    pub progressed: Millis,
    /// When the stream first took no more, without a pause of [`CALM_MS`] since.
    pub blocked_since: Millis,
    /// When it last took no more.
    pub blocked_last: Millis,
    /// Bytes of the outbox that are gone.
    pub sent: usize,
    /// It is in the list of those that have something to send.
    pub is_dirty: bool,
    /// The stream takes no bytes until it says so.
    pub is_blocked: bool,
    /// It is in the list of those that have something to read.
    pub is_ready: bool,
    /// The peer will send no more.
    pub is_hung_up: bool,
    /// It publishes faster than somebody takes it: it is not read for a while.
    pub is_held: bool,
    /// It was held, and is read in small pieces.
    pub is_slowed: bool,
    /// It is in the list of those that wait for the log to become durable.
    pub is_waiting: bool,
    /// The connection ends when the outbox is sent.
    pub is_closing: bool,
}

impl Slot {
    /// Bytes that wait to be sent.
    pub fn pending(&self) -> usize {
        self.outbox.len().saturating_sub(self.sent)
    }

    /// The number of the connection in place `index`.
    pub fn owner(&self, index: u32) -> u64 {
        u64::from(self.generation) << 32 | u64::from(index)
    }

    /// It is the connection with this number, and takes deliveries.
    pub fn takes(&self, owner: u64) -> bool {
        u64::from(self.generation) == owner >> 32 && self.stream.is_some() && !self.is_closing
    }

    /// Lets something be written to the outbox.
    pub fn write<R>(
        &mut self,
        buffers: &mut Buffers,
        now: Millis,
        fill: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> R {
        if self.outbox.capacity() == 0 {
            self.outbox = buffers.take();
            self.progressed = now;
        }
        let before = self.outbox.capacity();
        let outcome = fill(&mut self.outbox);
        buffers.grown(before, self.outbox.capacity());
        outcome
    }

    /// Puts a frame into the outbox.
    pub fn append(&mut self, frame: &[u8], buffers: &mut Buffers, now: Millis) {
        self.write(buffers, now, |outbox| outbox.extend_from_slice(frame));
    }

    /// Sends what can be sent; whether the outbox may then hold this many more bytes.
    pub fn make_space(&mut self, bytes: usize, buffers: &mut Buffers, now: Millis) -> bool {
        if !self.is_blocked && self.pending() > 0 {
            self.flush(buffers, now);
        }
        self.pending() == 0 || self.pending() + bytes <= buffers.high_mark()
    }

    /// Sends what the stream takes in one write, most often everything.
    pub fn flush(&mut self, buffers: &mut Buffers, now: Millis) -> Flushed {
        let Some(stream) = &self.stream else { return Flushed::Gone };
        while let Some(bytes) = self.outbox.get(self.sent..).filter(|bytes| !bytes.is_empty()) {
            match stream.write(bytes) {
                Ok(0) => return Flushed::Gone,
                Ok(count) => {
                    self.progressed = now;
                    self.sent += count;
                    if self.sent < self.outbox.len() {
                        return self.block(now);
                    }
                }
                Err(error) => match error.kind() {
                    std::io::ErrorKind::Interrupted => {}
                    std::io::ErrorKind::WouldBlock => return self.block(now),
                    _ => return Flushed::Gone,
                },
            }
        }
        self.sent = 0;
        buffers.give(std::mem::take(&mut self.outbox));
        Flushed::Drained
    }

    fn block(&mut self, now: Millis) -> Flushed {
        self.is_blocked = true;
        if now > self.blocked_last.after(CALM_MS) {
            self.blocked_since = now;
        }
        self.blocked_last = now;
        // Sent bytes are dropped once they are the larger part, so that moving stays cheap.
        if self.sent > self.outbox.len() / 2 {
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        Flushed::Blocked
    }

    /// Remembers that a consumer was told to wait.
    pub fn pause(&mut self, consumer: ConsumerId) {
        if !self.paused.contains(&consumer) {
            self.paused.push(consumer);
        }
    }

    /// Frees the place; the buffers go back and the stream is closed.
    pub fn clear(&mut self, buffers: &mut Buffers) {
        buffers.give(std::mem::take(&mut self.outbox));
        buffers.give(std::mem::take(&mut self.rest));
        if let Some(stream) = &self.stream {
            stream.finish();
        }
        // Lists may still name the place; the flags that say so stay until they are read.
        *self = Slot {
            generation: self.generation.wrapping_add(1) & super::table::GENERATION_MASK,
            is_dirty: self.is_dirty,
            is_ready: self.is_ready,
            is_waiting: self.is_waiting,
            ..Slot::default()
        };
    }
}
