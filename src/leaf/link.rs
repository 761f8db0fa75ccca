//! The device's side of a session.
//!
//! ```text
//! down --connect--> greeting --Welcome--> up
//!   ^                  ^                   |
//!   +---disconnect-----+---silence, Who, Error
//! ```
//! Nothing here outlives a session but the name of the device, what it wants, and the time. What is to be
//! said next follows from a few numbers, so nothing that is lost has to be kept: it is said again.

use super::record::LANES;
use super::store::{Store, BACKLOG, FRESH, SENT_MAX};
use super::{Answer, Event, Inbox, Incoming, LeafOptions, SendOrder};
use crate::flash::Flash;
use crate::units::Millis;
use crate::wire::frame::{flag, Again, Bytes, Code, Deliver, Hello, Nack, Open, Subscribe, Verdict, Welcome};
use crate::wire::{seal, Frame, Sealed, Seed, VERSION};

/// Until Hello is said again; doubled up to [`PAUSE_MAX_MS`].
const HELLO_MS: u64 = 1000;
/// Until what is not confirmed is sent again, or an answer asked for again; doubled up to [`PAUSE_MAX_MS`].
const RETRY_MS: u64 = 2000;
const PAUSE_MAX_MS: u64 = 32_000;
/// A greeting is asked for no more often than this.
const WHO_MS: u64 = 200;
/// Until a gateway that refused is asked again.
const REFUSED_MS: u64 = 10_000;
/// Deliveries that may be unacknowledged.
const WINDOW: u16 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    Greeting,
    Up,
}

/// The session, or the way to one.
pub(super) struct Link<'a> {
    pub(super) options: LeafOptions<'a>,
    max_frame: u16,
    phase: Phase,
    nonce: u32,
    pub(super) seed: Seed,
    /// Hello is said at this time, and the pause after that.
    hello_at: Millis,
    hello_pause_ms: u64,
    said_hello: Millis,
    heard: Millis,
    asked: Millis,
    /// Messages that may be unconfirmed.
    pub(super) window: u64,
    /// Nothing is published before.
    pub(super) held_until: Millis,
    /// What is not confirmed by then is sent again.
    pub(super) retry_at: Millis,
    retry_pause_ms: u64,
    /// Lanes that are to be opened.
    opens: [bool; LANES],
    /// Subscriptions granted so far, and when the next one is asked for.
    granted: u16,
    subscribe_at: Millis,
    /// Number of the last delivery that was dealt with.
    delivered: u32,
    acks: bool,
    nack: Option<Nack>,
    credits: bool,
    is_paused: bool,
    pong: Option<u32>,
    /// Time of the gateway at the Welcome.
    pub(super) session_ms: u64,
    /// Time since 1970 less the device's clock.
    pub(super) offset_ms: Option<i64>,
}

impl<'a> Link<'a> {
    pub(super) fn new(options: LeafOptions<'a>, receive_size: usize) -> Link<'a> {
        let never = Millis::NEVER;
        Link {
            options,
            max_frame: u16::try_from(receive_size.saturating_sub(receive_size / 254).saturating_sub(2))
                .unwrap_or(u16::MAX),
            phase: Phase::Down,
            nonce: options.seed,
            seed: Seed::GREETING,
            hello_at: never,
            hello_pause_ms: HELLO_MS,
            said_hello: Millis(0),
            heard: Millis(0),
            asked: Millis(0),
            window: 0,
            held_until: Millis(0),
            retry_at: never,
            retry_pause_ms: RETRY_MS,
            opens: [false; LANES],
            granted: 0,
            subscribe_at: never,
            delivered: 0,
            acks: false,
            nack: None,
            credits: false,
            is_paused: false,
            pong: None,
            session_ms: 0,
            offset_ms: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    pub(super) fn greet(&mut self, now: Millis) {
        self.phase = Phase::Greeting;
        (self.hello_at, self.hello_pause_ms) = (now, HELLO_MS);
    }

    pub(super) fn down(&mut self, inbox: &mut dyn Inbox) {
        if self.phase == Phase::Up {
            inbox.event(Event::Down);
        }
        self.phase = Phase::Down;
    }

    /// The session is over; a new one is asked for at that time.
    fn lose(&mut self, hello_at: Millis, inbox: &mut dyn Inbox) {
        self.down(inbox);
        self.greet(hello_at);
    }

    pub(super) fn pause(&mut self, is_paused: bool) {
        (self.is_paused, self.credits) = (is_paused, true);
    }

    /// Flags and time that a message is stored with.
    pub(super) fn stamp(&self, retain: bool, now: Millis) -> (u8, u64) {
        let flags = if retain { flag::RETAIN } else { 0 };
        match self.time_ms(now) {
            Some(time_ms) => (flags | flag::DATED, time_ms),
            None => (flags, now.0),
        }
    }

    pub(super) fn time_ms(&self, now: Millis) -> Option<u64> {
        self.offset_ms.and_then(|offset_ms| now.0.checked_add_signed(offset_ms))
    }

    /// The lane of what is published now.
    pub(super) fn lane_now(&self) -> usize {
        match self.options.order {
            SendOrder::NewestFirst if self.is_up() => FRESH,
            _ => BACKLOG,
        }
    }

    fn learn_time(&mut self, time_ms: u64, now: Millis) {
        self.offset_ms = i64::try_from(time_ms).ok().map(|ms| ms.saturating_sub_unsigned(now.0));
    }

    fn silence_ms(&self) -> u64 {
        match self.options.keep_alive_s {
            0 => u64::MAX,
            seconds => u64::from(seconds).saturating_mul(1000),
        }
    }

    /// When something is to be said, whatever comes.
    pub(super) fn poll_timeout<F: Flash>(&self, store: &Store<'_, F>) -> Millis {
        match self.phase {
            Phase::Down => Millis::NEVER,
            Phase::Greeting => self.hello_at,
            Phase::Up => {
                let half = self.heard.max(self.asked).after(self.silence_ms() / 2);
                let next = half.min(self.heard.after(self.silence_ms())).min(self.retry_at);
                let next = if self.is_subscribing() { next.min(self.subscribe_at) } else { next };
                match store.is_all_sent() {
                    false if self.held_until > self.heard => next.min(self.held_until),
                    _ => next,
                }
            }
        }
    }

    fn is_subscribing(&self) -> bool {
        usize::from(self.granted) < self.options.subscriptions.len()
    }

    /// Takes a frame.
    pub(super) fn handle<F: Flash>(
        &mut self,
        sealed: &Sealed<'_>,
        store: &mut Store<'_, F>,
        now: Millis,
        inbox: &mut dyn Inbox,
    ) {
        if self.phase == Phase::Up && sealed.checks(self.seed) {
            self.heard = now;
            if let Some(frame) = sealed.frame() {
                self.handle_session(&frame, store, now, inbox);
            }
        } else if self.phase != Phase::Down && sealed.checks(Seed::answer(self.nonce)) {
            if let Some(Frame::Welcome(welcome)) = sealed.frame() {
                self.begin(&welcome, store, now, inbox);
            }
        } else if self.phase != Phase::Down && sealed.checks(Seed::GREETING) {
            match sealed.frame() {
                Some(Frame::Who) if now >= self.said_hello.after(WHO_MS) => self.lose(now, inbox),
                Some(Frame::Error(code)) => self.refused(code, now, inbox),
                _ => {}
            }
        }
    }

    fn refused(&mut self, code: Code, now: Millis, inbox: &mut dyn Inbox) {
        inbox.event(Event::Refused(code));
        self.lose(now.after(REFUSED_MS), inbox);
    }

    fn begin<F: Flash>(
        &mut self,
        welcome: &Welcome,
        store: &mut Store<'_, F>,
        now: Millis,
        inbox: &mut dyn Inbox,
    ) {
        if welcome.version != VERSION {
            return self.refused(Code::Version, now, inbox);
        }
        self.seed = Seed::session(self.nonce, welcome.nonce);
        self.phase = Phase::Up;
        (self.heard, self.asked) = (now, Millis(0));
        self.set_window(welcome.window);
        self.held_until = Millis(0);
        (self.retry_at, self.retry_pause_ms) = (Millis::NEVER, RETRY_MS);
        (self.opens, self.granted, self.subscribe_at) = ([true; LANES], 0, now);
        (self.delivered, self.acks, self.nack) = (0, false, None);
        (self.credits, self.pong) = (self.is_paused, None);
        self.options.clean = false;
        self.session_ms = welcome.time_ms;
        if welcome.is_dated {
            self.learn_time(welcome.time_ms, now);
        }
        store.rewind();
        inbox.event(Event::Up);
    }

    fn handle_session<F: Flash>(
        &mut self,
        frame: &Frame<'_>,
        store: &mut Store<'_, F>,
        now: Millis,
        inbox: &mut dyn Inbox,
    ) {
        match *frame {
            Frame::Confirm { lane, upto } => self.confirmed(lane.into(), upto, store, now),
            Frame::Again(again) => self.again(&again, store, now),
            Frame::Reject { sequence, code, .. } => inbox.event(Event::Rejected(sequence, code)),
            Frame::Credit { window } => self.set_window(window),
            Frame::Deliver(ref deliver) => self.deliver(deliver, inbox),
            Frame::Granted { request, refused } if request == self.granted => {
                if let Some(code) = refused {
                    inbox.event(Event::NotGranted(request, code));
                }
                self.granted = request.saturating_add(1);
                (self.subscribe_at, self.retry_pause_ms) = (now, RETRY_MS);
            }
            Frame::Ping { token } => self.pong = Some(token),
            Frame::Pong(pong) => {
                let way_ms = u64::from((now.0 as u32).wrapping_sub(pong.token)) / 2;
                if self.offset_ms.is_some() && way_ms < PAUSE_MAX_MS {
                    self.learn_time(pong.time_ms.saturating_add(way_ms), now);
                }
            }
            Frame::Error(code) => self.refused(code, now, inbox),
            _ => {}
        }
    }

    fn set_window(&mut self, window: u16) {
        self.window = u64::from(window).min(SENT_MAX);
    }

    fn confirmed<F: Flash>(&mut self, lane: usize, upto: u64, store: &mut Store<'_, F>, now: Millis) {
        let before = store.waiting();
        // Where it cannot be written it is confirmed again after the next start.
        let _ = store.settle(lane, upto);
        if store.waiting() < before {
            self.retry_pause_ms = RETRY_MS;
            self.wait_for_confirm(store, now);
        }
    }

    pub(super) fn wait_for_confirm<F: Flash>(&mut self, store: &Store<'_, F>, now: Millis) {
        self.retry_at = if store.is_unconfirmed() { now.after(self.retry_pause_ms) } else { Millis::NEVER };
    }

    fn again<F: Flash>(&mut self, again: &Again, store: &mut Store<'_, F>, now: Millis) {
        let Some(opens) = self.opens.get_mut(usize::from(again.lane)) else { return };
        *opens = true;
        self.held_until = now.after(again.after_ms.into());
        store.rewind_to(again.lane.into(), again.upto);
        self.retry_at = Millis::NEVER;
    }

    fn deliver(&mut self, deliver: &Deliver<'_>, inbox: &mut dyn Inbox) {
        let Deliver { number, distance, .. } = *deliver;
        let upto = self.delivered;
        let is_numbered = number > 0;
        if is_numbered && number <= upto {
            self.acks = true;
            return;
        }
        let mut verdict = Verdict::Again;
        if !is_numbered || number.saturating_sub(distance) <= upto {
            let message = Incoming {
                topic: deliver.topic,
                body: deliver.body.0,
                retained: deliver.flags & flag::RETAIN != 0,
                redelivered: deliver.flags & flag::REDELIVERED != 0,
                published_ms: self.session_ms.saturating_add_signed(deliver.time_ms),
            };
            match inbox.deliver(&message) {
                Answer::Done if is_numbered => {
                    (self.delivered, self.acks, self.nack) = (number, true, None);
                    return;
                }
                Answer::Done => return,
                Answer::Later(after_ms) => verdict = Verdict::Delay(after_ms),
                Answer::Never => verdict = Verdict::DeadLetter,
            }
        }
        if is_numbered {
            self.nack = Some(Nack { upto, seen: number, verdict });
        }
    }

    /// Writes the next frame to be said; its size, or none if there is none or no room for it.
    pub(super) fn next_frame<F: Flash>(
        &mut self,
        out: &mut [u8],
        store: &mut Store<'_, F>,
        now: Millis,
        inbox: &mut dyn Inbox,
    ) -> Option<usize> {
        match self.phase {
            Phase::Down => return None,
            Phase::Greeting => return self.say_hello(out, now),
            Phase::Up => {}
        }
        if now >= self.heard.after(self.silence_ms()) {
            self.lose(now, inbox);
            return self.say_hello(out, now);
        }
        if let Some(size) = self.say_short(out, store, now) {
            return Some(size);
        }
        if now >= self.retry_at {
            store.rewind();
            self.opens = [true; LANES];
            self.retry_pause_ms = self.retry_pause_ms.saturating_mul(2).min(PAUSE_MAX_MS);
            self.retry_at = Millis::NEVER;
        }
        self.publish_next(out, store, now)
    }

    fn say_hello(&mut self, out: &mut [u8], now: Millis) -> Option<usize> {
        if now < self.hello_at {
            return None;
        }
        self.nonce = self.nonce.wrapping_mul(0x9e37_79b1).wrapping_add(now.0 as u32 | 1);
        let LeafOptions { device, secret, clean, keep_alive_s, subscriptions, .. } = self.options;
        let hello = Hello {
            version: VERSION,
            nonce: self.nonce,
            device,
            secret: Bytes(secret),
            window: if subscriptions.is_empty() { 0 } else { WINDOW },
            max_frame: self.max_frame,
            clean,
            keep_alive_s,
        };
        // What stands on the line before it ends here.
        let (first, rest) = out.split_first_mut()?;
        *first = 0;
        let size = seal(&Frame::Hello(hello), Seed::GREETING, rest)?;
        self.said_hello = now;
        self.hello_at = now.after(self.hello_pause_ms);
        self.hello_pause_ms = self.hello_pause_ms.saturating_mul(2).min(PAUSE_MAX_MS);
        Some(size.saturating_add(1))
    }

    /// Everything but messages.
    fn say_short<F: Flash>(&mut self, out: &mut [u8], store: &Store<'_, F>, now: Millis) -> Option<usize> {
        if let Some(token) = self.pong {
            let pong = crate::wire::frame::Pong { token, time_ms: 0, upto: self.delivered };
            let size = seal(&Frame::Pong(pong), self.seed, out)?;
            self.pong = None;
            return Some(size);
        }
        if self.acks {
            let size = seal(&Frame::Ack { upto: self.delivered }, self.seed, out)?;
            self.acks = false;
            return Some(size);
        }
        if let Some(nack) = self.nack {
            let size = seal(&Frame::Nack(nack), self.seed, out)?;
            self.nack = None;
            return Some(size);
        }
        if self.credits {
            let window = if self.is_paused { 0 } else { WINDOW };
            let size = seal(&Frame::Credit { window }, self.seed, out)?;
            self.credits = false;
            return Some(size);
        }
        for (number, lane) in store.lanes.iter().enumerate() {
            let Some(opens) = self.opens.get_mut(number).filter(|opens| **opens) else { continue };
            // One that is not used needs no opening.
            if number == BACKLOG || !lane.is_idle() || self.options.order == SendOrder::NewestFirst {
                let open = Open { lane: number as u8, epoch: store.epoch, settled: lane.settled };
                let size = seal(&Frame::Open(open), self.seed, out)?;
                *opens = false;
                return Some(size);
            }
            *opens = false;
        }
        if self.is_subscribing() && now >= self.subscribe_at {
            let pattern = self.options.subscriptions.get(usize::from(self.granted))?;
            let subscribe = Subscribe { request: self.granted, pattern, retained: true };
            let size = seal(&Frame::Subscribe(subscribe), self.seed, out)?;
            self.subscribe_at = now.after(RETRY_MS);
            return Some(size);
        }
        if now >= self.heard.max(self.asked).after(self.silence_ms() / 2) || self.asked == Millis(0) {
            let size = seal(&Frame::Ping { token: now.0 as u32 }, self.seed, out)?;
            // 0 says that it was not asked yet.
            self.asked = now.max(Millis(1));
            self.credits = self.is_paused;
            return Some(size);
        }
        None
    }
}
