//! The firmware of a leaf: what it does is the same on every board.
//!
//! ```text
//! every so often: a reading -> log on flash -> line -> gateway
//! set/DEVICE/every_ms           <------------- line <- gateway      how often
//! ```
//! A reading is `{"n":17,"value":2314}`, published under a topic of the board's. `n` counts up from 1 for as long
//! as the store lives: who reads them from the gateway can see that none is missing and none came twice.
//! Where there is no room, the oldest readings make it.
//!
//! Limits: [`MESSAGE_MAX`], [`FRAME_MAX`].

use embedded_io::{Read, ReadReady, Write};
use forebay::flash::Flash;
use forebay::leaf::io::turn;
use forebay::leaf::{Answer, Inbox, Incoming, Leaf, LeafError, LeafOptions, Message};
use forebay::units::Millis;

use crate::decimal;
use crate::text::Text;

/// Bytes of the largest message that is published, with its topic.
pub const MESSAGE_MAX: u16 = 96;
/// Bytes of the largest frame that is taken.
pub const FRAME_MAX: usize = 192;
/// Bytes of the largest frame that is written.
const OUT: usize = 192;
/// Readings are no further apart.
const EVERY_MAX_MS: u64 = 86_400_000;

/// What a board has of its own.
pub trait Board {
    /// Milliseconds since the start.
    fn now_ms(&mut self) -> u64;

    /// What it measures.
    fn value(&mut self) -> u64;

    /// There is nothing to do: sleep, if something ends that soon.
    fn idle(&mut self) {}

    /// A reading is on flash.
    fn stored(&mut self, _sequence: u64) {}

    /// The gateway has everything up to this reading.
    fn confirmed(&mut self, _sequence: u64) {}
}

/// How a leaf of a board is told who it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Its name at the gateway.
    pub device: &'a str,
    /// What it publishes under.
    pub topic: &'a str,
    /// Readings are so far apart at first, in milliseconds.
    pub every_ms: u64,
    /// Another number at each boot.
    pub seed: u32,
}

impl<'a> Identity<'a> {
    /// What to mount the leaf with.
    pub fn options(&self, subscriptions: &'a [&'a str]) -> LeafOptions<'a> {
        LeafOptions {
            device: self.device,
            seed: self.seed,
            subscriptions,
            max_message: MESSAGE_MAX,
            keep_alive_s: 10,
            ..LeafOptions::default()
        }
    }
}

/// What the gateway has asked for.
#[derive(Default)]
struct Wishes {
    every_ms: Option<u64>,
}

impl Inbox for Wishes {
    fn deliver(&mut self, message: &Incoming<'_>) -> Answer {
        match decimal::read(message.body) {
            Some(every_ms) => {
                self.every_ms = Some(every_ms.min(EVERY_MAX_MS));
                Answer::Done
            }
            None => Answer::Never,
        }
    }
}

/// Runs a leaf for as long as its flash takes writes.
pub fn run<F: Flash, S: Read + ReadReady + Write>(
    leaf: &mut Leaf<'_, F>,
    line: &mut S,
    board: &mut impl Board,
    identity: &Identity<'_>,
) {
    let mut wishes = Wishes { every_ms: Some(identity.every_ms) };
    let (mut every_ms, mut next_ms, mut settled) = (EVERY_MAX_MS, 0, leaf.stats().settled);
    let mut out = [0; OUT];
    leaf.connect(Millis(board.now_ms()));
    loop {
        let now_ms = board.now_ms();
        if let Some(wish_ms) = wishes.every_ms.take() {
            (every_ms, next_ms) = (wish_ms, now_ms.saturating_add(wish_ms));
        }
        if now_ms >= next_ms {
            next_ms = now_ms.saturating_add(every_ms);
            match publish(leaf, board, identity.topic, Millis(now_ms)) {
                Ok(sequence) => board.stored(sequence),
                Err(LeafError::ReadOnly) => return,
                // The next one may have more luck.
                Err(_) => {}
            }
        }
        match turn(leaf, line, &mut out, Millis(now_ms), &mut wishes) {
            Ok(true) => {}
            Ok(false) => board.idle(),
            // A byte with an error in it: what was in its frame is sent again.
            Err(_) => {}
        }
        let stats = leaf.stats();
        if stats.settled > settled {
            settled = stats.settled;
            board.confirmed(settled);
        }
    }
}

fn publish<F: Flash>(
    leaf: &mut Leaf<'_, F>,
    board: &mut impl Board,
    topic: &str,
    now: Millis,
) -> Result<u64, LeafError> {
    let mut buffer = [0; MESSAGE_MAX as usize];
    let next = leaf.stats().newest.saturating_add(1);
    let text = Text::new(&mut buffer).put(b"{\"n\":").number(next);
    let body = text.put(b",\"value\":").number(board.value()).put(b"}").done();
    leaf.publish(&Message { topic, body, ..Message::default() }, now)
}
