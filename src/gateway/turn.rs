//! The turn: what the gateway does between two waits for the kernel.
//!
//! ```text
//! wait -> events -> read each ready connection once -> timers
//!                -> pump the broker -> commit -> one write for each connection that has something
//! ```
//! Everything runs on one thread and nothing in a turn waits, so the broker and the table need no
//! lock and no cell; the parts of [`Gateway`] are borrowed side by side. A connection that has more
//! to read than one buffer comes again next turn, so none holds up the others.
//!
//! Limits: one read of [`INPUT_BYTES`] a connection and turn, [`PUMPS_COUNT`] rounds of the pump.

use crate::command::Command;
use crate::protocol::{Close, Session};
use crate::units::Millis;

use super::desk::Desk;
use super::engine::Engine;
use super::poller::Readiness;
use super::pressure::PIECE_BYTES;
use super::rooms::{Room, Rooms};
use super::stream::Stream;
use super::table::{Table, RESERVED_COUNT};

/// Bytes read from one connection in one turn.
pub const INPUT_BYTES: usize = 64 * 1024;

/// Rounds of the pump in one turn; what is left goes on in the next.
const PUMPS_COUNT: usize = 4;

/// Deadlines of sessions are looked at no more often than this.
const SWEEP_MS: u64 = 200;

/// After a leap of log time no session is found silent for this long.
const FORGIVE_MS: u64 = 600_000;

/// Clients are left alone for no longer than this because the store has to make room.
const TIGHT_MS: u64 = 1000;

/// How long clients are waited for, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until a client must have introduced itself.
    pub handshake_ms: u64,
    /// Until a client that takes nothing is cut off.
    pub stall_ms: u64,
}

/// What a read brought.
enum Input {
    /// This many bytes; whether there may be more.
    Bytes(usize, bool),
    /// Nothing for now.
    Nothing,
    /// The stream is over.
    End,
}

/// The broker, the connections, and the lists of what is to be done.
pub struct Gateway {
    /// The broker.
    pub engine: Engine,
    /// The connections.
    pub table: Table,
    rooms: Rooms,
    patience: Patience,
    input: Box<[u8]>,
    replies: Vec<u8>,
    ready: Vec<u32>,
    waiting: Vec<u32>,
    next_sweep: Millis,
    forgiven_until: Millis,
    has_more: bool,
    /// Since when the store is tight.
    tight_since: Option<Millis>,
    /// It was tight for so long that clients are read all the same.
    is_pushed: bool,
}

impl Gateway {
    /// A gateway without connections.
    pub fn new(engine: Engine, table: Table, rooms: Rooms, patience: Patience) -> Gateway {
        Gateway {
            engine,
            table,
            rooms,
            patience,
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            replies: Vec::new(),
            ready: Vec::new(),
            waiting: Vec::new(),
            next_sweep: Millis::NEVER,
            forgiven_until: Millis(0),
            has_more: false,
            tight_since: None,
            is_pushed: false,
        }
    }

    /// Takes in a new connection; returns its place, or the stream if there is none.
    pub fn connect(&mut self, stream: Stream, room: Room) -> Result<u32, Stream> {
        let (now, is_local, line) = (self.table.now, stream.is_local(), stream.line());
        // Whoever asks why nobody can connect must be able to.
        let reserved = if room == Room::Control { 0 } else { RESERVED_COUNT };
        self.connect_with(stream, reserved, |rooms, owner| match line {
            Some(line) => rooms.open_line(line, owner, now),
            None => rooms.open(room, owner, is_local, now),
        })
    }

    /// Takes in a new connection with a session of the caller's, if that leaves so many places.
    pub fn connect_with(
        &mut self,
        stream: Stream,
        reserved: u32,
        open: impl FnOnce(&mut Rooms, u64) -> Box<dyn Session>,
    ) -> Result<u32, Stream> {
        if !self.table.has_room(reserved) {
            return Err(stream);
        }
        let now = self.table.now;
        let index = self.table.insert(stream)?;
        let session = open(&mut self.rooms, self.table.owner(index));
        self.settle(index, session);
        self.next_sweep = self.next_sweep.min(now.after(self.patience.handshake_ms));
        Ok(index)
    }

    /// The kernel reported something of a connection.
    pub fn handle_event(&mut self, owner: u64, readiness: Readiness) {
        let Some(index) = self.table.find(owner) else { return };
        let Some(slot) = self.table.slot(index) else { return };
        slot.is_hung_up |= readiness.hangup;
        let unblocks = readiness.writable && slot.is_blocked;
        if unblocks {
            slot.is_blocked = false;
            self.table.flush(index);
        }
        // Input may have been left alone while it was blocked.
        if readiness.readable || unblocks {
            self.mark_ready(index);
        }
    }

    fn mark_ready(&mut self, index: u32) {
        if let Some(slot) = self.table.slot(index).filter(|slot| !slot.is_ready && !slot.is_held) {
            slot.is_ready = true;
            self.ready.push(index);
        }
    }

    /// Reads every connection that has something, once.
    pub fn serve_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        for index in ready.drain(..) {
            if let Some(place) = self.table.place(index) {
                place.is_ready = false;
            }
            if self.serve(index) {
                self.mark_ready(index);
            }
        }
        // What was put on the list meanwhile is for the next turn.
        ready.append(&mut self.ready);
        self.ready = ready;
    }

    /// Reads one connection once and lets its session work; true if there may be more to read.
    fn serve(&mut self, index: u32) -> bool {
        let high_mark = self.table.buffers.high_mark();
        // What the store has no room for yet is left with the clients a moment longer.
        if self.engine.is_tight() && !self.is_pushed {
            return true;
        }
        let Some(slot) = self.table.slot(index) else { return false };
        // Who does not take his answers is not asked for more questions.
        if slot.is_blocked && slot.pending() > high_mark {
            return false;
        }
        let is_hung_up = slot.is_hung_up;
        let most = if slot.is_slowed { PIECE_BYTES } else { INPUT_BYTES };
        let Some(mut session) = slot.session.take() else { return false };
        let mut rest = std::mem::take(&mut slot.rest);
        let kept = self.front(&mut rest);
        let is_unfinished = session.is_unfinished();
        let input = if is_unfinished { Input::Nothing } else { self.read(index, kept, most) };
        let (count, is_more) = match input {
            Input::Bytes(count, is_more) => (count, is_more || is_hung_up),
            Input::Nothing if is_unfinished => (0, true),
            Input::Nothing => {
                self.put_back(index, session, rest, kept);
                return false;
            }
            Input::End => {
                self.table.buffers.give(rest);
                self.desk().end(index, session, &Close::Lost);
                return false;
            }
        };
        let mut replies = std::mem::take(&mut self.replies);
        let filled = self.input.get(..kept + count).unwrap_or_default();
        let mut desk = Desk { engine: &mut self.engine, table: &mut self.table };
        let outcome = if rest.is_empty() {
            let used = session.handle_input(filled, &mut desk, &mut replies);
            used.map(|used| keep(&mut rest, filled.get(used..).unwrap_or_default(), &mut desk.table.buffers))
        } else {
            keep(&mut rest, filled, &mut desk.table.buffers);
            let used = session.handle_input(&rest, &mut desk, &mut replies);
            used.map(|used| drop(rest.drain(..used.min(rest.len()))))
        };
        self.reply(index, &mut replies);
        self.replies = replies;
        match outcome {
            Ok(()) => {
                let is_unfinished = session.is_unfinished();
                self.put_back(index, session, rest, 0);
                is_unfinished || is_more & !self.table.hold_if_ahead(index)
            }
            Err(reason) => {
                self.table.buffers.give(rest);
                self.desk().end(index, session, &reason);
                false
            }
        }
    }

    /// Moves a short rest to the front of the read buffer; a long one is read behind in its own.
    fn front(&mut self, rest: &mut Vec<u8>) -> usize {
        if rest.len() > INPUT_BYTES / 4 {
            return 0;
        }
        let kept = rest.len();
        if let Some(front) = self.input.get_mut(..kept) {
            front.copy_from_slice(rest);
        }
        rest.clear();
        kept
    }

    fn read(&mut self, index: u32, kept: usize, most: usize) -> Input {
        let Some(stream) = self.table.slot(index).and_then(|slot| slot.stream.as_ref()) else {
            return Input::End;
        };
        let end = INPUT_BYTES.min(kept + most);
        let Some(space) = self.input.get_mut(kept..end) else { return Input::Nothing };
        loop {
            return match stream.read(space) {
                Ok(0) => Input::End,
                // A terminal gives what it has in pieces.
                Ok(count) => Input::Bytes(count, count == space.len() || stream.line().is_some()),
                Err(error) => match error.kind() {
                    std::io::ErrorKind::Interrupted => continue,
                    std::io::ErrorKind::WouldBlock => Input::Nothing,
                    _ => Input::End,
                },
            };
        }
    }

    /// Returns a session to its place, with the beginning of a frame, of which `kept` bytes are
    /// still at the front of the read buffer.
    fn put_back(&mut self, index: u32, session: Box<dyn Session>, mut rest: Vec<u8>, kept: usize) {
        keep(&mut rest, self.input.get(..kept).unwrap_or_default(), &mut self.table.buffers);
        if rest.is_empty() {
            self.table.buffers.give(std::mem::take(&mut rest));
        }
        self.settle(index, session);
        match self.table.slot(index) {
            Some(slot) => slot.rest = rest,
            None => self.table.buffers.give(rest),
        }
    }

    /// Returns a session to its place and takes note of what it waits for.
    fn settle(&mut self, index: u32, session: Box<dyn Session>) {
        let now = self.table.now;
        let Some(slot) = self.table.slot(index) else { return };
        self.next_sweep = self.next_sweep.min(session.poll_timeout().max(now.after(SWEEP_MS)));
        slot.direct = session.direct();
        if session.awaits_durable() && !slot.is_waiting {
            slot.is_waiting = true;
            self.waiting.push(index);
        }
        slot.session = Some(session);
    }

    fn reply(&mut self, index: u32, replies: &mut Vec<u8>) {
        if replies.is_empty() {
            return;
        }
        let now = self.table.now;
        if let Some((slot, buffers)) = self.table.slot_and_buffers(index) {
            slot.append(replies, buffers, now);
            self.table.mark_dirty(index);
        }
        replies.clear();
        replies.shrink_to(INPUT_BYTES);
    }

    fn desk(&mut self) -> Desk<'_> {
        Desk { engine: &mut self.engine, table: &mut self.table }
    }

    /// Lets a session that is not at work do something.
    fn with_session(
        &mut self,
        index: u32,
        work: impl FnOnce(&mut dyn Session, &mut Desk<'_>, &mut Vec<u8>) -> Result<(), Close>,
    ) {
        let Some(mut session) = self.table.slot(index).and_then(|slot| slot.session.take()) else { return };
        let mut replies = std::mem::take(&mut self.replies);
        let outcome = work(session.as_mut(), &mut self.desk(), &mut replies);
        self.reply(index, &mut replies);
        self.replies = replies;
        match outcome {
            Ok(()) => self.settle(index, session),
            Err(reason) => self.desk().end(index, session, &reason),
        }
    }

    /// The medium reported: sessions whose confirms waited get to write them.
    pub fn handle_sync(&mut self) {
        if self.engine.poll_durable().is_none() {
            return;
        }
        let durable = self.engine.durable();
        let waiting = std::mem::take(&mut self.waiting);
        for index in &waiting {
            if let Some(place) = self.table.place(*index) {
                place.is_waiting = false;
            }
            self.with_session(*index, |session, desk, replies| {
                session.handle_durable(durable, desk, replies);
                Ok(())
            });
        }
    }

    /// The store takes no writes any more: sessions whose confirms waited are told.
    fn handle_outage(&mut self) {
        // Queues that waited for the medium have a turn.
        self.has_more = true;
        for index in std::mem::take(&mut self.waiting) {
            if let Some(place) = self.table.place(index) {
                place.is_waiting = false;
            }
            self.with_session(index, |session, _, replies| session.handle_read_only(replies));
        }
    }

    /// Deadlines of the broker and of the sessions that are over.
    pub fn handle_time(&mut self) {
        let now = self.table.now;
        if self.engine.poll_timeout() <= now {
            self.engine.handle_timeout(now, &mut self.table);
        }
        if self.next_sweep > now || self.forgiven_until > now {
            return;
        }
        let indexes: Vec<u32> = self.table.indexes().collect();
        let patience_ms = self.patience.handshake_ms.min(self.patience.stall_ms);
        self.next_sweep = if indexes.is_empty() { Millis::NEVER } else { now.after(patience_ms) };
        for index in indexes {
            self.sweep(index, now);
        }
    }

    /// Log time leapt, so that everybody seems to have been silent for long: they get time to show
    /// that they are there.
    pub fn forgive(&mut self) {
        self.forgiven_until = self.table.now.after(FORGIVE_MS);
    }

    fn sweep(&mut self, index: u32, now: Millis) {
        let patience = self.patience;
        let Some(slot) = self.table.slot(index) else { return };
        let stall_end = slot.progressed.after(patience.stall_ms);
        let is_stalled = slot.pending() > 0 && now >= stall_end;
        if slot.pending() > 0 {
            self.next_sweep = self.next_sweep.min(stall_end.max(now.after(SWEEP_MS)));
        }
        let opened = slot.opened;
        match &slot.session {
            None if is_stalled => return self.table.remove(index),
            None => return,
            Some(_) if is_stalled => {
                self.with_session(index, |_, _, _| {
                    Err(Close::Refused("it takes nothing of what waits for it"))
                });
                return self.table.remove(index);
            }
            Some(_) => {}
        }
        let handshake_end = opened.after(patience.handshake_ms);
        if handshake_end > now {
            self.next_sweep = self.next_sweep.min(handshake_end);
        }
        self.with_session(index, |session, desk, replies| {
            if !session.is_established() && now >= handshake_end {
                return Err(Close::Protocol("it did not introduce itself in time"));
            }
            if session.poll_timeout() <= now {
                session.handle_timeout(now, desk, replies)?;
            }
            Ok(())
        });
    }

    /// Ends a turn: hands out, commits, and sends. After it `timeout` says how long to wait.
    pub fn end_turn(&mut self) {
        let now = self.table.now;
        self.has_more = false;
        for _ in 0..PUMPS_COUNT {
            self.has_more = self.engine.pump(now, &mut self.table);
            if !self.has_more {
                break;
            }
        }
        self.engine.commit(now);
        if self.engine.take_outage_news() {
            self.handle_outage();
        }
        self.tight_since = self.engine.is_tight().then(|| self.tight_since.unwrap_or(now));
        self.is_pushed = self.tight_since.is_some_and(|since| now.since(since) >= TIGHT_MS);
        if self.table.flush_dirty() {
            self.has_more = true;
            while let Some(consumer) = self.table.pop_retry() {
                let resume = Command::Pause(consumer, false);
                if let Err(refusal) = self.engine.execute(now, resume, &mut self.table) {
                    log::trace!("consumer {consumer} is gone: {refusal:?}");
                }
            }
        }
        for index in self.table.release_held(self.has_more) {
            self.mark_ready(index);
        }
        while let Some(owner) = self.table.pop_gone() {
            let Some(index) = self.table.find(owner) else { continue };
            self.with_session(index, |_, _, _| Err(Close::Lost));
            self.table.remove(index);
        }
    }

    /// How long the next wait may be.
    pub fn timeout_ms(&self) -> Option<u64> {
        if self.engine.is_tight() && !self.is_pushed && !self.has_more {
            return Some(1);
        }
        if self.has_more || !self.ready.is_empty() {
            return Some(0);
        }
        let next = self.next_sweep.max(self.forgiven_until).min(self.engine.poll_timeout());
        let next = next.min(self.table.poll_timeout());
        (next != Millis::NEVER).then(|| next.since(self.table.now))
    }

    /// Ends every session.
    pub fn disconnect_all(&mut self) {
        let indexes: Vec<u32> = self.table.indexes().collect();
        for index in indexes {
            self.with_session(index, |session, _, replies| {
                session.say_farewell(replies);
                Err(Close::Shutdown)
            });
        }
    }
}

/// Appends to the beginning of a frame that is kept for the next read.
fn keep(rest: &mut Vec<u8>, bytes: &[u8], buffers: &mut super::buffers::Buffers) {
    if bytes.is_empty() {
        return;
    }
    if rest.capacity() == 0 {
        *rest = buffers.take();
    }
    let before = rest.capacity();
    rest.extend_from_slice(bytes);
    buffers.grown(before, rest.capacity());
}
