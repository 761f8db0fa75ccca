//! One client's connection: bytes to frames, frames to where they belong.
//!
//! ```text
//!  greeting -> start -> tune -> open -> running --------- connection.close, answered ---> over
//!      \          \        \       \       \-- error: connection.close sent -> closing --> over
//! ```
//! (specification 2.2.4). A content whose frames lie one after the other in the read buffer, which is
//! how clients send them, is published from there; any other is put together in `publish`.
//!
//! A fault ends a channel or the connection and costs nobody else anything: its consumers are
//! detached, what they had goes back to the queues.

use super::channel::{Channel, Mode};
use super::codec::frame::{HEARTBEAT, METHOD};
use super::codec::method::PUBLISH;
use super::codec::{frame, parse, split, write, Frame, Method, MethodError, MethodId, FRAME_MIN, GREETING};
use super::connection::{Capabilities, Phase, CLOSING_MS};
use super::consumers::Consumers;
use super::errors::{code, Ends, Fault};
use super::message::Scratch;
use super::permissions::Granted;
use super::publish::Whole;
use super::queues::Purge;
use super::replies::Replies;
use super::Settings;
use crate::command::{Commands, Delivery, Offer};
use crate::protocol::{About, Close, Session};
use crate::units::{ConsumerId, Millis, Position};
use std::rc::Rc;

/// A fault was answered; the connection is over when its answer is answered.
const FAULTED: Close = Close::Protocol("it was closed with an error, which it was told");

/// What a session works with while it is called.
pub struct Work<'w> {
    /// The broker.
    pub broker: &'w mut dyn Commands,
    /// Bytes for the peer.
    pub out: &'w mut Vec<u8>,
}

/// The session of one connection.
pub struct AmqpSession {
    pub(super) settings: Rc<Settings>,
    pub(super) owner: u64,
    /// It comes from this machine.
    pub(super) is_local: bool,
    pub(super) phase: Phase,
    pub(super) capabilities: Capabilities,
    pub(super) user: Box<str>,
    pub(super) granted: Granted,
    pub(super) virtual_host: Box<str>,
    pub(super) frame_max: u32,
    pub(super) channel_max: u16,
    /// 0: neither side has to show that it is there.
    pub(super) heartbeat_ms: u64,
    pub(super) heard: Millis,
    /// When to see whether something was sent.
    pub(super) next_beat: Millis,
    /// When to see which deliveries wait for too long to be settled.
    pub(super) next_check: Millis,
    pub(super) has_spoken: bool,
    pub(super) has_published: bool,
    /// The client was told that publishes are held up.
    pub(super) is_blocked: bool,
    pub(super) replies: Replies,
    pub(super) channels: Vec<Option<Box<Channel>>>,
    pub(super) consumers: Consumers,
    pub(super) scratch: Scratch,
    /// A queue that is not empty yet; nothing else is done before it is.
    pub(super) purge: Option<Purge>,
    /// Bytes of contents that are not whole yet, and of transactions.
    pub(super) held_bytes: usize,
    pub(super) waits: bool,
    random: u64,
}

impl AmqpSession {
    /// A session for a new connection; `owner` is the number deliveries are addressed with, `seed` is
    /// secret, and `is_local` says that the peer is on this machine.
    pub fn new(settings: Rc<Settings>, owner: u64, is_local: bool, seed: u64, now: Millis) -> AmqpSession {
        AmqpSession {
            settings,
            owner,
            is_local,
            phase: Phase::Greeting,
            capabilities: Capabilities::default(),
            user: "".into(),
            granted: Granted::default(),
            virtual_host: "/".into(),
            frame_max: FRAME_MIN,
            channel_max: 0,
            heartbeat_ms: 0,
            heard: now,
            next_beat: Millis::NEVER,
            next_check: Millis::NEVER,
            has_spoken: false,
            has_published: false,
            is_blocked: false,
            replies: Replies::default(),
            channels: Vec::new(),
            consumers: Consumers::default(),
            scratch: Scratch::default(),
            purge: None,
            held_bytes: 0,
            waits: false,
            random: seed ^ owner.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// A name nobody else has, behind a prefix.
    pub(super) fn unique_name(&mut self, prefix: &str) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut name = String::from(prefix);
        for _ in 0..2 {
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.random;
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            for place in 0..11 {
                let letter = LETTERS.get((mixed >> (place * 6) & 63) as usize).copied().unwrap_or(b'A');
                name.push(char::from(letter));
            }
        }
        name
    }

    /// Writes an answer, in order.
    pub(super) fn reply(
        &mut self,
        position: Position,
        work: &mut Work<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.has_spoken = true;
        self.replies.push(position, work.broker.durable(), work.out, write);
    }

    fn handle_frames(&mut self, input: &[u8], work: &mut Work<'_>) -> Result<usize, Close> {
        let mut used = 0;
        loop {
            if !self.go_on_purging(work) {
                return Ok(used);
            }
            let rest = input.get(used..).unwrap_or_default();
            let (frame, size) = match split(rest, self.frame_max) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(used),
                Err(error) => {
                    // Nothing that follows can be made sense of.
                    self.fault(0, MethodId::default(), Fault::new(code::FRAME_ERROR, error.text()), work);
                    return Err(FAULTED);
                }
            };
            if frame.kind == METHOD && frame.payload.starts_with(&PUBLISH) {
                match self.publish_whole(frame, size, rest, work)? {
                    Whole::Published(size) => {
                        used += size;
                        continue;
                    }
                    Whole::NotYet => return Ok(used),
                    Whole::Piecemeal => {}
                }
            }
            self.handle_frame(frame, work)?;
            used += size;
        }
    }

    /// Publishes the content at the front of `rest` if it is there as a whole.
    fn publish_whole(
        &mut self,
        frame: Frame<'_>,
        size: usize,
        rest: &[u8],
        work: &mut Work<'_>,
    ) -> Result<Whole, Close> {
        let number = frame.channel;
        let Some(mut channel) = self.take_channel(number) else { return Ok(Whole::Piecemeal) };
        if channel.is_closing || channel.assembly.is_some() || !matches!(self.phase, Phase::Running) {
            self.put_channel(channel);
            return Ok(Whole::Piecemeal);
        }
        let outcome = self.publish_from(&mut channel, frame.payload, size, rest, work);
        self.put_channel(channel);
        match outcome {
            Ok(whole) => Ok(whole),
            Err((size, fault)) => {
                self.fault(number, MethodId { class: 60, method: 40 }, fault, work);
                Ok(Whole::Published(size))
            }
        }
    }

    fn handle_frame(&mut self, frame: Frame<'_>, work: &mut Work<'_>) -> Result<(), Close> {
        let (id, method) = match frame.kind {
            METHOD => match parse(frame.payload) {
                Ok((id, method)) => (id, Some(method)),
                Err(error) => return self.refuse_method(error, work),
            },
            _ => (MethodId::default(), None),
        };
        let outcome = match (&self.phase, method) {
            (Phase::Closing(_), Some(Method::ConnectionCloseOk)) => return Err(FAULTED),
            (Phase::Closing(_), Some(Method::ConnectionClose { .. })) => {
                write::plain(0, 10, 51, work.out);
                return Err(FAULTED);
            }
            (Phase::Closing(_), _) => Ok(()),
            (Phase::Running, _) if frame.kind == HEARTBEAT => Ok(()),
            (_, Some(method)) if frame.channel == 0 => return self.handle_connection(id, &method, work),
            (Phase::Running, _) if frame.channel != 0 => {
                self.handle_channel(frame, id, method.as_ref(), work)
            }
            _ => Err(Fault::new(code::UNEXPECTED_FRAME, "a frame that cannot come now")),
        };
        if let Err(fault) = outcome {
            self.fault(frame.channel, id, fault, work);
        }
        Ok(())
    }

    fn refuse_method(&mut self, error: MethodError, work: &mut Work<'_>) -> Result<(), Close> {
        if matches!(self.phase, Phase::Closing(_)) {
            return Ok(());
        }
        let (id, fault) = match error {
            MethodError::Malformed(id) => {
                (id, Fault::new(code::SYNTAX_ERROR, "a method with arguments that make no sense"))
            }
            MethodError::Unknown(id) => {
                (id, Fault::new(code::NOT_IMPLEMENTED, "a method that is unknown, or that only servers send"))
            }
        };
        self.fault(0, id, fault, work);
        Ok(())
    }

    pub(super) fn take_channel(&mut self, number: u16) -> Option<Box<Channel>> {
        self.channels.get_mut(usize::from(number))?.take()
    }

    pub(super) fn put_channel(&mut self, channel: Box<Channel>) {
        if let Some(place) = self.channels.get_mut(usize::from(channel.number)) {
            *place = Some(channel);
        }
    }

    /// Tells the peer of a fault and ends what it ends.
    pub(super) fn fault(&mut self, number: u16, id: MethodId, fault: Fault, work: &mut Work<'_>) {
        let text = fault.reply_text();
        let is_small = fault.ends == Ends::Channel;
        if let Some(mut channel) =
            Some(number).filter(|_| is_small).and_then(|number| self.take_channel(number))
        {
            log::debug!("amqp: channel {number} closed with {}: {text}", fault.code);
            self.release_channel(&mut channel, work);
            *channel = Channel { is_closing: true, ..Channel::new(number) };
            self.put_channel(channel);
            self.reply(Position(0), work, |out| write::close(number, fault.code, &text, id, out));
            return;
        }
        log::info!("amqp: a connection of user '{}' closed with {}: {text}", self.user, fault.code);
        self.detach(work);
        self.reply(Position(0), work, |out| write::close(0, fault.code, &text, id, out));
        self.phase = Phase::Closing(work.broker.now().after(CLOSING_MS));
    }

    /// Everything of a channel goes back: its consumers, what they had, what was not whole.
    pub(super) fn release_channel(&mut self, channel: &mut Channel, work: &mut Work<'_>) {
        self.held_bytes = self.held_bytes.saturating_sub(channel.held_bytes());
        channel.window.clear();
        self.end_consumers(channel.number, work);
        if let Mode::Confirm(confirms) = &mut channel.mode {
            // Nobody can be told any more.
            **confirms = Default::default();
        }
    }

    /// Everything of the connection goes back.
    fn detach(&mut self, work: &mut Work<'_>) {
        for place in 0..self.channels.len() {
            if let Some(mut channel) = self.channels.get_mut(place).and_then(Option::take) {
                self.release_channel(&mut channel, work);
            }
        }
        self.channels = Vec::new();
        self.delete_exclusive(work);
    }

    /// Ends a read, or a call that may have published.
    fn end_read(&mut self, work: &mut Work<'_>) {
        let durable = work.broker.durable();
        for channel in self.channels.iter_mut().flatten() {
            if let Mode::Confirm(confirms) = &mut channel.mode {
                confirms.mark(channel.number, durable, work.out);
            }
        }
        self.tell_blocked(work);
        self.note_waiting();
    }

    fn note_waiting(&mut self) {
        let mut channels = self.channels.iter().flatten();
        self.waits = !self.replies.is_empty()
            || self.consumers.is_fetching()
            || channels
                .any(|channel| matches!(&channel.mode, Mode::Confirm(confirms) if !confirms.is_empty()));
    }
}

impl Session for AmqpSession {
    fn handle_input(
        &mut self,
        input: &[u8],
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<usize, Close> {
        self.heard = broker.now();
        let mut work = Work { broker, out };
        let mut used = 0;
        if matches!(self.phase, Phase::Greeting) {
            let Some(greeting) = input.first_chunk::<8>() else { return Ok(0) };
            if *greeting != GREETING {
                // What is spoken here (2.2.4.1).
                work.out.extend_from_slice(&GREETING);
                return Err(Close::Protocol("it does not speak AMQP 0-9-1"));
            }
            self.start(&mut work);
            used = greeting.len();
        }
        used += self.handle_frames(input.get(used..).unwrap_or_default(), &mut work)?;
        self.end_read(&mut work);
        if self.replies.is_over() {
            return Err(Close::Protocol("it asks for more than it reads answers to"));
        }
        Ok(used)
    }

    fn is_unfinished(&self) -> bool {
        self.purge.is_some()
    }

    fn handle_delivery(&mut self, delivery: &Delivery<'_>, out: &mut Vec<u8>) -> Offer {
        self.deliver(delivery, out)
    }

    fn handle_cancelled(&mut self, consumer: ConsumerId, out: &mut Vec<u8>) {
        self.cancelled(consumer, out);
    }

    fn handle_durable(&mut self, durable: Position, broker: &mut dyn Commands, out: &mut Vec<u8>) {
        for channel in self.channels.iter_mut().flatten() {
            if let Mode::Confirm(confirms) = &mut channel.mode {
                confirms.release(channel.number, durable, out);
                self.has_spoken = true;
            }
        }
        let mut work = Work { broker, out };
        if !self.replies.is_empty() {
            self.replies.release(durable, work.out);
            self.start_announced(&mut work);
        }
        self.fetch_again(&mut work);
        self.note_waiting();
    }

    fn handle_read_only(&mut self, out: &mut Vec<u8>) -> Result<(), Close> {
        for channel in self.channels.iter_mut().flatten() {
            if let Mode::Confirm(confirms) = &mut channel.mode {
                confirms.give_up(channel.number, out);
            }
        }
        for fetch in self.consumers.take_fetches() {
            write::basic_get_empty(fetch.channel, out);
        }
        if self.replies.is_empty() {
            return Ok(());
        }
        // What was declared is not on flash and never will be.
        let text = "RESOURCE_ERROR - the store takes no writes since an error of the medium";
        write::close(0, code::RESOURCE_ERROR, text, MethodId::default(), out);
        Err(Close::Refused("what it declared cannot be written since an error of the medium"))
    }

    fn say_farewell(&mut self, out: &mut Vec<u8>) {
        if matches!(self.phase, Phase::Running) {
            self.replies.release(Position(u64::MAX), out);
            let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
            write::close(0, code::CONNECTION_FORCED, text, MethodId::default(), out);
        }
    }

    fn about(&self) -> About {
        let channels = self.channels.iter().flatten().count();
        let consumers = self.consumers.started_count();
        About { protocol: "amqp", channels, consumers, held_bytes: self.held_bytes }
    }

    fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Closing(_))
    }

    fn awaits_durable(&self) -> bool {
        self.waits
    }

    fn poll_timeout(&self) -> Millis {
        self.deadline()
    }

    fn handle_timeout(
        &mut self,
        now: Millis,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        self.check_life(now, &mut Work { broker, out })
    }

    fn handle_close(&mut self, _reason: &Close, broker: &mut dyn Commands) {
        // Nobody is there to be told of consumers that end.
        let mut unheard = Vec::new();
        self.detach(&mut Work { broker, out: &mut unheard });
    }
}

/// Writes a sign of life.
pub(super) fn beat(out: &mut Vec<u8>) {
    frame::write_heartbeat(out);
}
