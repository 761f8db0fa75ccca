//! One device's line.
//!
//! ```text
//! greeting --Hello--> open --Hello--> open (another session, same or other device)
//!    ^                  |
//!    +---- silence -----+      on a line that stays; elsewhere the connection ends
//! ```
//! A stream begins with a Hello, and one may come at any time: the device was reset. What does not
//! check is noise, or of a session that is not known here; where nothing else comes the device is asked
//! who it is.

use super::access::{Access, Rights};
use super::inbound::Lane;
use super::outbound::Outbound;
use crate::command::{
    Command, Commands, Delivery, Offer, Overflow, QueueOptions, Refusal, Reply, Subscription,
};
use crate::model::hash::mix;
use crate::protocol::{About, Close, Session};
use crate::time::EPOCH_UNIX_MS;
use crate::units::{ConsumerId, Millis, Position, QueueId};
use crate::wire::cobs::coded_max;
use crate::wire::frame::{Code, Hello, Pong, Welcome};
use crate::wire::{is_name, seal, unwrap, Frame, Seed, FRAME_MAX, LANES, VERSION};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// The exchange that is the topic space.
pub(super) const EXCHANGE: &str = "amq.topic";
/// A device is asked who it is no more often than this.
const WHO_MS: u64 = 1000;
/// Frames in a row that do not check before a device in a session is asked who it is.
const BAD_COUNT: u32 = 3;
/// Log time before this is no date: a clock that was never set.
const DATED_MS: u64 = 86_400_000;

/// What the configuration says of the wire protocol.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest frame a device may send, in bytes before it is coded.
    pub max_frame: u32,
    /// Most messages of a device that may be unconfirmed.
    pub window: u16,
    /// Most messages waiting for one device; 0 is no limit.
    pub max_queue: u32,
    /// Who may do what.
    pub access: Access,
}

/// What all sessions share: who is connected under which name, and nonces.
#[derive(Debug)]
pub struct Shared {
    devices: HashMap<Box<str>, u64>,
    nonce_seed: u64,
    nonce_count: u64,
}

impl Shared {
    /// Nobody is connected; `seed` is another number at each start.
    pub fn new(seed: u64) -> Shared {
        Shared { devices: HashMap::new(), nonce_seed: seed, nonce_count: 0 }
    }

    fn nonce(&mut self) -> u32 {
        self.nonce_count += 1;
        mix(self.nonce_seed, self.nonce_count) as u32
    }
}

/// A line that is there whether or not somebody is at its other end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The only device that may be there.
    pub device: Option<String>,
}

/// What waits for the flash.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiting {
    /// A message of a lane is settled up to this sequence.
    Published(u8, u64),
    /// A subscription was made or unmade.
    Granted(u16),
}

/// What is known once Hello was accepted.
pub(super) struct Open {
    pub(super) device: Box<str>,
    pub(super) rights: Rights,
    pub(super) seed: Seed,
    /// Time of the Welcome, in milliseconds since 1970.
    pub(super) session_ms: u64,
    queue: Option<QueueId>,
    pub(super) consumer: Option<ConsumerId>,
    pub(super) lanes: [Lane; LANES],
    pub(super) waiting: VecDeque<(Position, Waiting)>,
    pub(super) outbound: Outbound,
    /// Deliveries it takes at one time.
    pub(super) window: u16,
    /// 0: it may be silent.
    silence_max_ms: u64,
}

impl Open {
    /// Name of the device's queue.
    pub(super) fn queue_name(&self) -> String {
        format!("wire.{}", self.device)
    }
}

/// The session of one stream.
pub struct WireSession {
    pub(super) settings: Rc<Settings>,
    shared: Rc<RefCell<Shared>>,
    owner: u64,
    line: Option<Line>,
    heard: Millis,
    said_who: Option<Millis>,
    bad_count: u32,
    /// The frame is too long: everything up to the next zero is dropped.
    is_skipping: bool,
    open: Option<Box<Open>>,
}

impl WireSession {
    /// A session for a new stream; `owner` is the number deliveries are addressed with.
    pub fn new(
        settings: Rc<Settings>,
        shared: Rc<RefCell<Shared>>,
        owner: u64,
        line: Option<Line>,
        now: Millis,
    ) -> WireSession {
        WireSession {
            settings,
            shared,
            owner,
            line,
            heard: now,
            said_who: None,
            bad_count: 0,
            is_skipping: false,
            open: None,
        }
    }

    fn handle_frame(
        &mut self,
        bytes: &mut [u8],
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        if let Some(sealed) = unwrap(bytes) {
            let seed = self.open.as_ref().map(|open| open.seed);
            if seed.is_some_and(|seed| sealed.checks(seed)) {
                (self.heard, self.bad_count) = (broker.now(), 0);
                let (Some(frame), Some(mut open)) = (sealed.frame(), self.open.take()) else { return Ok(()) };
                self.handle_session(&mut open, &frame, broker, out);
                self.open = Some(open);
                return Ok(());
            }
            if sealed.checks(Seed::GREETING) {
                if let Some(Frame::Hello(hello)) = sealed.frame() {
                    return self.greet(&hello, broker, out);
                }
            }
        }
        self.bad_count = self.bad_count.saturating_add(1);
        let is_due = self.said_who.is_none_or(|said| broker.now() >= said.after(WHO_MS));
        if is_due && (self.open.is_none() || self.bad_count >= BAD_COUNT) {
            self.said_who = Some(broker.now());
            say(&Frame::Who, Seed::GREETING, out);
        }
        Ok(())
    }

    /// The device was started, or lost the session.
    fn greet(
        &mut self,
        hello: &Hello<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        self.leave(broker);
        let is_expected =
            self.line.as_ref().and_then(|line| line.device.as_ref()).is_none_or(|only| only == hello.device);
        let rights = self.settings.access.admit(hello.device, hello.secret.0).filter(|_| is_expected);
        let rights = match rights {
            _ if !is_name(hello.device) => return self.refuse(Code::BadName, hello, out),
            _ if hello.version < VERSION => return self.refuse(Code::Version, hello, out),
            None => return self.refuse(Code::Unauthorized, hello, out),
            Some(rights) => rights,
        };
        let before = self.shared.borrow_mut().devices.insert(hello.device.into(), self.owner);
        if let Some(owner) = before.filter(|&owner| owner != self.owner) {
            broker.disconnect(owner);
        }
        let nonce = self.shared.borrow_mut().nonce();
        let mut open = Box::new(Open {
            device: hello.device.into(),
            rights,
            seed: Seed::session(hello.nonce, nonce),
            session_ms: unix_ms(broker.now()),
            queue: None,
            consumer: None,
            lanes: Default::default(),
            waiting: VecDeque::new(),
            outbound: Outbound::new(usize::from(hello.max_frame)),
            window: hello.window,
            silence_max_ms: u64::from(hello.keep_alive_s) * 1500,
        });
        let is_resumed = match self.resume(&mut open, hello.clean, broker) {
            Ok(is_resumed) => is_resumed,
            Err(refusal) => {
                log::warn!("device {}: {}", open.device, code_of(refusal).text());
                self.shared.borrow_mut().devices.remove(&open.device);
                return self.refuse(code_of(refusal), hello, out);
            }
        };
        let welcome = Welcome {
            version: VERSION,
            nonce,
            window: self.settings.window,
            max_frame: u16::try_from(self.settings.max_frame).unwrap_or(u16::MAX),
            time_ms: open.session_ms,
            is_dated: broker.now().0 >= DATED_MS,
            is_resumed,
        };
        say(&Frame::Welcome(welcome), Seed::answer(hello.nonce), out);
        log::info!("device {} is there", open.device);
        (self.heard, self.bad_count) = (broker.now(), 0);
        self.open = Some(open);
        Ok(())
    }

    /// Says no. A connection ends with it; a line stays, and the device asks again some time.
    fn refuse(&mut self, code: Code, hello: &Hello<'_>, out: &mut Vec<u8>) -> Result<(), Close> {
        say(&Frame::Error(code), Seed::GREETING, out);
        log::warn!("device {:?} refused: {}", hello.device, code.text());
        match self.line {
            Some(_) => Ok(()),
            None => Err(Close::Protocol(code.text())),
        }
    }

    /// Attaches to what is there from before, or forgets it; whether something was.
    fn resume(&self, open: &mut Open, is_clean: bool, broker: &mut dyn Commands) -> Result<bool, Refusal> {
        let name = &open.queue_name();
        if is_clean {
            let gone = broker.execute(Command::DeleteQueue { name, if_unused: false, if_empty: false });
            return match gone {
                Ok(_) | Err(Refusal::NoQueue) => Ok(false),
                Err(refusal) => Err(refusal),
            };
        }
        let Ok(Reply::Queue { id, .. }) = broker.execute(Command::FindQueue { name }) else {
            return Ok(false);
        };
        open.queue = Some(id);
        if open.window > 0 {
            self.ensure_consumer(open, broker)?;
        }
        Ok(true)
    }

    /// Makes queue and consumer of a device, if they are not there.
    pub(super) fn ensure_consumer(
        &self,
        open: &mut Open,
        broker: &mut dyn Commands,
    ) -> Result<ConsumerId, Refusal> {
        if let Some(consumer) = open.consumer {
            return Ok(consumer);
        }
        let queue = match open.queue {
            Some(queue) => queue,
            None => {
                let options = QueueOptions {
                    durable: true,
                    session: true,
                    max_count: self.settings.max_queue,
                    overflow: Overflow::DropOldest,
                    ..QueueOptions::default()
                };
                match broker.execute(Command::DeclareQueue { name: &open.queue_name(), options })? {
                    Reply::Queue { id, .. } => id,
                    _ => return Err(Refusal::NotAllowed),
                }
            }
        };
        open.queue = Some(queue);
        let credit = u32::from(open.window.max(1));
        let subscription = Subscription { queue, owner: self.owner, credit, ..Subscription::default() };
        match broker.execute(Command::Subscribe(subscription))? {
            Reply::Consumer(consumer) => {
                open.consumer = Some(consumer);
                Ok(consumer)
            }
            _ => Err(Refusal::NotAllowed),
        }
    }

    fn handle_session(
        &mut self,
        open: &mut Open,
        frame: &Frame<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) {
        match frame {
            Frame::Publish(publish) => self.publish(open, publish, broker, out),
            Frame::Open(lane) => open.open_lane(lane),
            Frame::Subscribe(subscribe) => self.subscribe(open, subscribe, broker, out),
            Frame::Unsubscribe(subscribe) => self.unsubscribe(open, subscribe, broker, out),
            Frame::Ack { upto } => open.outbound.acked(*upto, broker),
            Frame::Nack(nack) => open.outbound.nacked(nack, broker),
            Frame::Pong(pong) => open.outbound.answered(pong, broker),
            Frame::Credit { window } => {
                let Some(consumer) = open.consumer else { return };
                if let Err(refusal) = broker.execute(Command::Pause(consumer, *window == 0)) {
                    log::debug!("device {}: not paused: {refusal:?}", open.device);
                }
            }
            Frame::Ping { token } => {
                let pong = Pong { token: *token, time_ms: unix_ms(broker.now()), upto: 0 };
                say(&Frame::Pong(pong), open.seed, out);
            }
            // What only a gateway says, or what says nothing in a session.
            _ => {}
        }
        open.release(broker.durable(), out);
    }

    /// Ends the session, not the stream.
    fn leave(&mut self, broker: &mut dyn Commands) {
        let Some(open) = self.open.take() else { return };
        let mut shared = self.shared.borrow_mut();
        if shared.devices.get(&open.device) == Some(&self.owner) {
            shared.devices.remove(&open.device);
        }
        drop(shared);
        if let Some(consumer) = open.consumer {
            if let Err(refusal) = broker.execute(Command::Unsubscribe(consumer)) {
                log::debug!("device {}: nothing to detach: {refusal:?}", open.device);
            }
        }
    }

    fn silence_end(&self) -> Millis {
        match &self.open {
            Some(open) if open.silence_max_ms > 0 => self.heard.after(open.silence_max_ms),
            _ => Millis::NEVER,
        }
    }
}

impl Session for WireSession {
    fn handle_input(
        &mut self,
        input: &[u8],
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<usize, Close> {
        let mut bytes = Vec::new();
        let mut used = 0;
        let most = coded_max((self.settings.max_frame as usize).min(FRAME_MAX));
        while let Some(rest) = input.get(used..) {
            let Some(end) = rest.iter().position(|&byte| byte == 0) else { break };
            used += end + 1;
            if std::mem::take(&mut self.is_skipping) || end == 0 || end > most {
                continue;
            }
            bytes.clear();
            bytes.extend_from_slice(rest.get(..end).unwrap_or_default());
            self.handle_frame(&mut bytes, broker, out)?;
        }
        if self.is_skipping || input.len() - used > most {
            (self.is_skipping, used) = (true, input.len());
        }
        if let Some(open) = &mut self.open {
            open.confirm(out);
        }
        Ok(used)
    }

    fn handle_delivery(&mut self, delivery: &Delivery<'_>, out: &mut Vec<u8>) -> Offer {
        match &mut self.open {
            Some(open) => open.deliver(delivery, out),
            None => Offer::Busy,
        }
    }

    fn handle_cancelled(&mut self, consumer: ConsumerId, _out: &mut Vec<u8>) {
        if let Some(open) = self.open.as_mut().filter(|open| open.consumer == Some(consumer)) {
            (open.consumer, open.queue) = (None, None);
        }
    }

    fn handle_durable(&mut self, durable: Position, _broker: &mut dyn Commands, out: &mut Vec<u8>) {
        if let Some(open) = &mut self.open {
            open.release(durable, out);
            open.confirm(out);
        }
    }

    fn handle_read_only(&mut self, _out: &mut Vec<u8>) -> Result<(), Close> {
        // What is not confirmed is sent again, and then the device is told.
        if let Some(open) = &mut self.open {
            open.waiting.clear();
            open.lanes.iter_mut().for_each(Lane::take_back);
        }
        Ok(())
    }

    fn is_established(&self) -> bool {
        self.line.is_some() || self.open.is_some()
    }

    fn awaits_durable(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.waiting.is_empty())
    }

    fn about(&self) -> About {
        About { protocol: "wire", ..About::default() }
    }

    fn poll_timeout(&self) -> Millis {
        let asks = self.open.as_ref().map_or(Millis::NEVER, |open| open.outbound.poll_timeout());
        self.silence_end().min(asks)
    }

    fn handle_timeout(
        &mut self,
        now: Millis,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        if self.silence_end() <= now {
            if self.line.is_none() {
                return Err(Close::Silent);
            }
            self.leave(broker);
        }
        if let Some(open) = &mut self.open {
            open.outbound.handle_timeout(open.seed, now, broker, out);
        }
        Ok(())
    }

    fn handle_close(&mut self, _reason: &Close, broker: &mut dyn Commands) {
        self.leave(broker);
    }
}

/// Log time as milliseconds since 1970.
pub(super) fn unix_ms(at: Millis) -> u64 {
    at.0.saturating_add(EPOCH_UNIX_MS)
}

/// Writes a frame.
pub(super) fn say(frame: &Frame<'_>, seed: Seed, out: &mut Vec<u8>) {
    let body_size = match frame {
        Frame::Deliver(deliver) => deliver.topic.len() + deliver.body.0.len(),
        _ => 0,
    };
    let before = out.len();
    out.resize(before + coded_max(body_size + 64), 0);
    let written = out.get_mut(before..).and_then(|place| seal(frame, seed, place));
    out.truncate(before + written.unwrap_or(0));
}

/// A refusal as the device is told.
pub(super) fn code_of(refusal: Refusal) -> Code {
    match refusal {
        Refusal::StoreFull | Refusal::QueueFull => Code::Full,
        Refusal::ReadOnly => Code::ReadOnly,
        Refusal::TooLarge => Code::TooLarge,
        Refusal::Malformed => Code::BadTopic,
        Refusal::Limit(_) => Code::Limit,
        _ => Code::Refused,
    }
}
