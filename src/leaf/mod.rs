//! A leaf: a device that keeps what it has to say in its own flash and says it when there is a link.
//!
//! [`Leaf::publish`] is done when the message is on flash. From there it goes to a gateway over any
//! stream, however often that fails, and is deleted when the gateway has confirmed that it is on the
//! gateway's flash; it arrives there once, and in the order of [`SendOrder`]. What the device has subscribed to comes down
//! the same way. The leaf does no input or output but through [`Flash`], and takes the time as an argument.
//!
//! ```text
//! publish -> log on flash -> poll_output -> line -> gateway
//!               | deleted <- handle_input <- line <- Confirm
//! inbox  <----------------- handle_input <- line <- Deliver
//! ```
//! The driver's contract: call [`connect`](Leaf::connect) when there is a line (a UART: once, at boot);
//! give everything that comes to `handle_input`; write out everything `poll_output` gives, at least
//! at `poll_timeout` and after every other call; call `disconnect` when the line is gone.
//! `io` has this loop for `embedded-io` and `embedded-io-async` streams.
//!
//! Memory: the log's tables and one frame ([`LeafMemory`] holds them all), no byte for a message. At a
//! reset at any moment nothing stored is lost, and nothing is at the gateway twice.
//!
//! Limits: `max_message`, and the flash; what happens when that is full is said by [`WhenFull`].

pub mod io;
mod link;
mod record;
mod room;
mod send;
mod store;

use crate::flash::Flash;
use crate::log::{FormatError, Log, LogStorage, MountError, SegmentState, WINDOWS_MIN};
use crate::units::Millis;
use crate::wire::cobs::coded_max;
use crate::wire::frame::Code;
use crate::wire::Assembler;
use link::Link;
use record::Head;
use store::Store;

/// Bytes of a frame besides topic and body, at most, once it is coded.
const FRAME_OVERHEAD: usize = 1 + 1 + 10 + 10 + 10 + 3 + 12 + 3 + 4;

/// Bytes of the open segment's index: where it is full the segment is closed early.
const INDEX_SIZE: usize = 512;

/// What is done when a message does not fit into the flash. What a policy keeps of the oldest messages is
/// stored again behind the others, and arrives that much later; up to 64 that may have been sent already and
/// are not confirmed are given up with the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest messages make room for it, a segment of them.
    #[default]
    DropOldest,
    /// Those of the lowest priority in the oldest segment make room, at least a quarter of it.
    DropLowest,
    /// The oldest make room but for the last message of each topic: of a segment at least a quarter goes, and
    /// of up to 32 topics in it the last is kept.
    KeepLast,
    /// It is refused: `LeafError::Full`.
    Refuse,
}

/// What is sent first when there is a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendOrder {
    /// The oldest: everything arrives in the order in which it was stored.
    #[default]
    OldestFirst,
    /// What is published while there is a session; what has waited for it is filled in behind that, each of
    /// the two in the order in which it was stored.
    NewestFirst,
}

/// What a leaf is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct LeafOptions<'a> {
    /// Name of the device: letters, digits, `-`, `_`, `.`, at most 64.
    pub device: &'a str,
    /// What the gateway asks for before it lets the device in; empty for nothing.
    pub secret: &'a [u8],
    /// Another number at each boot, random if there is a way: it keeps sessions apart, and begins the
    /// epoch of a new store.
    pub seed: u32,
    /// Topic patterns the device wants, in MQTT's spelling.
    pub subscriptions: &'a [&'a str],
    /// Bytes of the largest message, with its topic.
    pub max_message: u16,
    /// What is done when the flash is full.
    pub when_full: WhenFull,
    /// What is sent first.
    pub order: SendOrder,
    /// A gateway that is silent for so long is gone, in seconds; it is asked after half of it. Up to 65,535.
    pub keep_alive_s: u16,
    /// Forget at the next greeting what the gateway keeps for the device, subscriptions included.
    pub clean: bool,
}

impl Default for LeafOptions<'_> {
    fn default() -> Self {
        LeafOptions {
            device: "leaf",
            secret: &[],
            seed: 0,
            subscriptions: &[],
            max_message: 256,
            when_full: WhenFull::DropOldest,
            order: SendOrder::OldestFirst,
            keep_alive_s: 60,
            clean: false,
        }
    }
}

/// The memory a leaf works in; borrowed for its life.
#[derive(Debug)]
pub struct LeafStorage<'a> {
    /// One for each segment of the flash.
    pub segments: &'a mut [SegmentState],
    /// At least one write unit of the flash, and whole ones; more saves program calls.
    pub tail: &'a mut [u8],
    /// Index of the open segment.
    pub index: &'a mut [u8],
    /// `log::WINDOWS_MIN` bytes, and no less than the largest message and 64.
    pub windows: &'a mut [u8],
    /// One frame as it comes: the largest delivery that is taken, and 64.
    pub receive: &'a mut [u8],
}

impl<'a> LeafStorage<'a> {
    /// Splits off the log's share.
    fn split(self) -> (LogStorage<'a>, &'a mut [u8]) {
        let LeafStorage { segments, tail, index, windows, receive } = self;
        (LogStorage { segments, tail, index, windows }, receive)
    }
}

/// All of it in one, for a `static`: segments of the flash, bytes of its write unit or a multiple, bytes of
/// the largest frame that is taken.
#[derive(Debug)]
pub struct LeafMemory<const SEGMENTS: usize, const TAIL: usize, const FRAME: usize> {
    segments: [SegmentState; SEGMENTS],
    tail: [u8; TAIL],
    index: [u8; INDEX_SIZE],
    windows: [u8; WINDOWS_MIN],
    receive: [u8; FRAME],
}

impl<const SEGMENTS: usize, const TAIL: usize, const FRAME: usize> LeafMemory<SEGMENTS, TAIL, FRAME> {
    /// All of it zero.
    pub const fn new() -> Self {
        LeafMemory {
            segments: [SegmentState::EMPTY; SEGMENTS],
            tail: [0; TAIL],
            index: [0; INDEX_SIZE],
            windows: [0; WINDOWS_MIN],
            receive: [0; FRAME],
        }
    }

    /// For [`Leaf::mount`].
    pub fn storage(&mut self) -> LeafStorage<'_> {
        let LeafMemory { segments, tail, index, windows, receive } = self;
        LeafStorage { segments, tail, index, windows, receive }
    }
}

impl<const SEGMENTS: usize, const TAIL: usize, const FRAME: usize> Default
    for LeafMemory<SEGMENTS, TAIL, FRAME>
{
    fn default() -> Self {
        LeafMemory::new()
    }
}

/// A message to be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message<'m> {
    /// Topic, in MQTT's spelling; at most 255 bytes.
    pub topic: &'m str,
    /// The payload.
    pub body: &'m [u8],
    /// It is the last value of its topic.
    pub retain: bool,
    /// 0 to 9.
    pub priority: u8,
    /// The gateway drops it so long after it took it; 0 for never.
    pub ttl_ms: u32,
    /// The gateway hands it out so long after it took it.
    pub delay_ms: u32,
}

/// A message that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming<'m> {
    /// Its topic.
    pub topic: &'m str,
    /// Its payload.
    pub body: &'m [u8],
    /// It is the last value of its topic, sent because of the subscription.
    pub retained: bool,
    /// It may have come before.
    pub redelivered: bool,
    /// When it was published, in milliseconds since 1970.
    pub published_ms: u64,
}

/// What the device makes of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done with.
    Done,
    /// There is no room for it now: again after so many milliseconds.
    Later(u32),
    /// It never will be: to the gateway's dead letters.
    Never,
}

/// What else a leaf tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a session with the gateway.
    Up,
    /// There is none any more.
    Down,
    /// The gateway does not want the device, for this reason; it is asked again later.
    Refused(Code),
    /// The gateway did not take this message, and never will; it is deleted.
    Rejected(u64, Code),
    /// The gateway did not grant the subscription with this index.
    NotGranted(u16, Code),
}

/// Takes what a leaf has for the device.
pub trait Inbox {
    /// A message has come.
    fn deliver(&mut self, message: &Incoming<'_>) -> Answer;

    /// Something happened.
    fn event(&mut self, _event: Event) {}
}

/// Why a message was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafError {
    /// The flash is full and the policy drops nothing.
    Full,
    /// Larger than `max_message`, or a topic over 255 bytes.
    TooLarge,
    /// No topic for a message: empty, or with `+`, `#` or a zero in it.
    BadTopic,
    /// The flash takes no more writes; what is stored is still sent.
    ReadOnly,
}

/// How a leaf is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeafStats {
    /// Messages stored and not confirmed, about: sequences between the two.
    pub waiting: u64,
    /// Sequence of the newest message.
    pub newest: u64,
    /// Everything up to this sequence is confirmed or dropped.
    pub settled: u64,
    /// Messages dropped since boot because the flash was full.
    pub dropped: u32,
    /// Damage met since boot.
    pub damaged: u32,
    /// There is a session with the gateway.
    pub is_up: bool,
}

/// A device's backlog and its link.
pub struct Leaf<'a, F: Flash> {
    store: Store<'a, F>,
    link: Link<'a>,
    receive: Assembler<'a>,
}

impl<'a, F: Flash> Leaf<'a, F> {
    /// Makes an empty store of a flash; see [`Log::format`].
    pub fn format(flash: &mut F, salt: u32, scratch: &mut [u8]) -> Result<(), FormatError> {
        Log::format(flash, salt, Millis(0), scratch)
    }

    /// Opens the store on a flash, as [`Leaf::new`] and [`Leaf::restore`] do together. A
    /// `MountError::NotAStore` says that it has to be formatted first.
    pub fn mount(flash: F, storage: LeafStorage<'a>, options: LeafOptions<'a>) -> Result<Self, MountError> {
        let mut leaf = Leaf::new(flash, storage, options)?;
        leaf.restore()?;
        Ok(leaf)
    }

    /// A leaf that knows nothing yet of what is on the flash: [`Leaf::restore`] it before anything else. In two
    /// steps it is where it stays before the second: a small stack has no room for copies.
    pub fn new(flash: F, storage: LeafStorage<'a>, options: LeafOptions<'a>) -> Result<Self, MountError> {
        let (log, receive) = storage.split();
        let store = Store::new(flash, log, options.max_message, options.when_full)?;
        let link = Link::new(options, receive.len());
        Ok(Leaf { store, link, receive: Assembler::new(receive) })
    }

    /// Takes over what is on the flash. If that fails, the leaf is of no use.
    pub fn restore(&mut self) -> Result<(), MountError> {
        self.store.restore(self.link.options.seed)
    }

    /// Stores a message; its sequence. When this returns it is on flash.
    pub fn publish(&mut self, message: &Message<'_>, now: Millis) -> Result<u64, LeafError> {
        let is_topic = |byte: u8| !matches!(byte, 0 | b'+' | b'#');
        if message.topic.is_empty() || !message.topic.bytes().all(is_topic) {
            return Err(LeafError::BadTopic);
        }
        let size = message.topic.len().saturating_add(message.body.len());
        if size > usize::from(self.link.options.max_message) {
            return Err(LeafError::TooLarge);
        }
        let (flags, time_ms) = self.link.stamp(message.retain, now);
        let head = Head { flags, time_ms, ttl_ms: message.ttl_ms, delay_ms: message.delay_ms };
        let lane = self.link.lane_now();
        self.store.append(&head, (lane, message.priority.min(9)), message.topic, message.body)
    }

    /// There is a line to the gateway now, with nothing of an earlier one in it.
    pub fn connect(&mut self, now: Millis) {
        self.receive.clear();
        self.link.greet(now);
    }

    /// There is no line any more.
    pub fn disconnect(&mut self, inbox: &mut dyn Inbox) {
        self.receive.clear();
        self.link.down(inbox);
    }

    /// Takes what came from the line.
    pub fn handle_input(&mut self, bytes: &[u8], now: Millis, inbox: &mut dyn Inbox) {
        for &byte in bytes {
            if self.receive.push(byte) {
                if let Some(sealed) = self.receive.take() {
                    self.link.handle(&sealed, &mut self.store, now, inbox);
                }
            }
        }
    }

    /// Writes frames for the line into `out`, which is at least [`output_min`](Leaf::output_min) long;
    /// how many bytes. Call it until that is 0.
    pub fn poll_output(&mut self, out: &mut [u8], now: Millis, inbox: &mut dyn Inbox) -> usize {
        let mut used = 0usize;
        while let Some(rest) = out.get_mut(used..) {
            match self.link.next_frame(rest, &mut self.store, now, inbox) {
                Some(size) => used = used.saturating_add(size),
                None => break,
            }
        }
        used
    }

    /// Bytes of the largest frame as it is on the line.
    pub fn output_min(&self) -> usize {
        coded_max(usize::from(self.link.options.max_message).saturating_add(FRAME_OVERHEAD))
    }

    /// When `poll_output` wants to be called, if nothing comes before.
    pub fn poll_timeout(&self) -> Millis {
        self.link.poll_timeout(&self.store)
    }

    /// Milliseconds since 1970, if the gateway has told.
    pub fn time_ms(&self, now: Millis) -> Option<u64> {
        self.link.time_ms(now)
    }

    /// Lets no messages come for a while, or again.
    pub fn pause(&mut self, is_paused: bool) {
        self.link.pause(is_paused);
    }

    /// How it is doing.
    pub fn stats(&self) -> LeafStats {
        LeafStats {
            waiting: self.store.waiting(),
            newest: self.store.newest,
            settled: self.store.settled(),
            dropped: self.store.dropped,
            damaged: self.store.damaged,
            is_up: self.link.is_up(),
        }
    }

    /// The log beneath, for its figures.
    pub fn log(&self) -> &Log<'a, F> {
        &self.store.log
    }
}
