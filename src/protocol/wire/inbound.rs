//! Inbound: what a device publishes and asks for.
//!
//! A lane takes its sequences in ascending order. A publish whose forerunner was not taken is not
//! taken either, and the device is told where to go on, once for all that are on the way already.

use super::access::{is_pattern, is_topic};
use super::session::{code_of, say, Open, Waiting, WireSession, EXCHANGE};
use crate::command::{
    Bind, Command, Commands, DedupKey, Destination, Grade, Message, Publish as PublishCommand, Refusal, Reply,
};
use crate::model::dedup::PRODUCER_BITS;
use crate::model::hash::hash;
use crate::model::headers::{Value, Writer};
use crate::model::key::Key;
use crate::units::{Millis, Position};
use crate::wire::frame::{flag, Again, Code, Publish, Subscribe};
use crate::wire::Frame;

/// Seed of the numbers that devices have in the dedup index; they stand in the store.
const PRODUCER_SEED: u64 = 0x7769_7265;
/// A device is told to go back no more often than this, for the same place.
const AGAIN_MS: u64 = 500;
/// Until a message that was refused for now may come again.
const FULL_MS: u32 = 1000;
/// The same where it takes an operator.
const READ_ONLY_MS: u32 = 10_000;
/// Messages over the window that are held before the rest is passed over.
const WINDOW_SLACK: usize = 64;

/// One lane of a device.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lane {
    is_open: bool,
    epoch: u32,
    /// Sequence of the last that was taken.
    last: u64,
    /// Everything up to this sequence is on flash.
    confirmed: u64,
    owes_confirm: bool,
    /// The device was told to go back to behind `.0`, and is not told again before `.1`.
    again: Option<(u64, Millis)>,
}

impl Lane {
    /// What is not on flash never will be.
    pub(super) fn take_back(&mut self) {
        self.last = self.confirmed;
    }
}

impl Open {
    pub(super) fn open_lane(&mut self, asked: &crate::wire::frame::Open) {
        let Some(lane) = self.lanes.get_mut(usize::from(asked.lane)) else { return };
        if !lane.is_open || lane.epoch != asked.epoch {
            *lane = Lane { is_open: true, epoch: asked.epoch, ..Lane::default() };
        }
        lane.last = lane.last.max(asked.settled);
        lane.confirmed = lane.confirmed.max(asked.settled);
        lane.again = None;
    }

    /// Everything before `durable` is on flash.
    pub(super) fn release(&mut self, durable: Position, out: &mut Vec<u8>) {
        while self.waiting.front().is_some_and(|&(position, _)| position <= durable) {
            let Some((_, waiting)) = self.waiting.pop_front() else { break };
            match waiting {
                Waiting::Published(number, sequence) => {
                    if let Some(lane) = self.lanes.get_mut(usize::from(number)) {
                        lane.confirmed = lane.confirmed.max(sequence);
                        lane.owes_confirm = true;
                    }
                }
                Waiting::Granted(request) => {
                    say(&Frame::Granted { request, refused: None }, self.seed, out);
                }
            }
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(8);
        }
    }

    /// Says how far every lane is, where that changed.
    pub(super) fn confirm(&mut self, out: &mut Vec<u8>) {
        for (number, lane) in (0u8..).zip(self.lanes.iter_mut()) {
            if std::mem::take(&mut lane.owes_confirm) {
                say(&Frame::Confirm { lane: number, upto: lane.confirmed }, self.seed, out);
            }
        }
    }

    /// Tells the device to go back to what follows the last that was taken.
    fn again(&mut self, number: u8, after_ms: u32, code: Option<Code>, now: Millis, out: &mut Vec<u8>) {
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return };
        if lane.again.is_some_and(|(upto, until)| upto == lane.last && now < until) {
            return;
        }
        lane.again = Some((lane.last, now.after(AGAIN_MS.max(after_ms.into()))));
        let again = Again { lane: number, upto: lane.last, after_ms, code };
        say(&Frame::Again(again), self.seed, out);
    }
}

impl WireSession {
    pub(super) fn publish(
        &mut self,
        open: &mut Open,
        publish: &Publish<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) {
        let number = publish.flags & flag::LANE;
        let Some(lane) = open.lanes.get_mut(usize::from(number)) else { return };
        let sequence = publish.sequence;
        if lane.is_open && sequence <= lane.last {
            lane.owes_confirm |= sequence <= lane.confirmed;
            return;
        }
        let follows = sequence.checked_sub(publish.distance).filter(|_| publish.distance > 0);
        if !lane.is_open || follows.is_none_or(|before| before > lane.last) {
            return open.again(number, 0, None, broker.now(), out);
        }
        if open.waiting.len() >= usize::from(self.settings.window).saturating_add(WINDOW_SLACK) {
            // More than it may: it comes again.
            return;
        }
        let refused = match (is_topic(publish.topic), open.rights.may_publish(publish.topic)) {
            (false, _) => Some(Code::BadTopic),
            (_, false) => Some(Code::Forbidden),
            _ => None,
        };
        let outcome = match refused {
            Some(code) => Err(code),
            None => self.pass_on(open, publish, broker).map_err(code_of),
        };
        let position = match outcome {
            Ok(position) => position,
            Err(code @ (Code::Full | Code::Limit)) => {
                return open.again(number, FULL_MS, Some(code), broker.now(), out);
            }
            Err(code @ Code::ReadOnly) => {
                return open.again(number, READ_ONLY_MS, Some(code), broker.now(), out);
            }
            Err(code) => {
                log::warn!("device {}: {:?} rejected: {}", open.device, publish.topic, code.text());
                say(&Frame::Reject { lane: number, sequence, code }, open.seed, out);
                Position(0)
            }
        };
        if let Some(lane) = open.lanes.get_mut(usize::from(number)) {
            (lane.last, lane.again) = (sequence, None);
        }
        open.waiting.push_back((position, Waiting::Published(number, sequence)));
    }

    /// Hands a message to the broker; where it will be on flash.
    fn pass_on(
        &self,
        open: &Open,
        publish: &Publish<'_>,
        broker: &mut dyn Commands,
    ) -> Result<Position, Refusal> {
        let number = publish.flags & flag::LANE;
        let epoch = open.lanes.get(usize::from(number)).map_or(0, |lane| lane.epoch);
        let producer =
            hash(PRODUCER_SEED, open.device.bytes().chain([0, number])) & ((1 << PRODUCER_BITS) - 1);
        let mut block = [0; 32];
        let mut headers = Writer::new(&mut block);
        if publish.flags & flag::DATED != 0 {
            let time_ms = (open.session_ms as i64).saturating_add(publish.time_ms);
            let _ = headers.push("timestamp", Value::Time(time_ms));
        }
        let headers = headers.finish();
        let options = publish.options.unwrap_or_default();
        let some = |ms: u32| (ms > 0).then_some(u64::from(ms));
        let is_fleeting = publish.flags & flag::FLEETING != 0;
        let command = PublishCommand {
            exchange: EXCHANGE,
            message: Message { key: Key::slashes(publish.topic.as_bytes()), headers, body: publish.body.0 },
            durable: true,
            grade: if is_fleeting { Grade::AtMostOnce } else { Grade::ExactlyOnce },
            retain: publish.flags & flag::RETAIN != 0,
            ttl_ms: some(options.ttl_ms),
            delay_ms: some(options.delay_ms),
            priority: options.priority.min(9),
            dedup: Some(DedupKey::Sequence { producer, epoch, sequence: publish.sequence }),
            ..PublishCommand::default()
        };
        match broker.execute(Command::Publish(command))? {
            Reply::Published { confirm_at, .. } => Ok(confirm_at),
            _ => Err(Refusal::NotAllowed),
        }
    }

    pub(super) fn subscribe(
        &mut self,
        open: &mut Open,
        subscribe: &Subscribe<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) {
        let request = subscribe.request;
        match self.bind(open, subscribe, broker) {
            Ok(position) => open.waiting.push_back((position, Waiting::Granted(request))),
            Err(code) => {
                log::warn!(
                    "device {}: subscription {:?} refused: {}",
                    open.device,
                    subscribe.pattern,
                    code.text()
                );
                say(&Frame::Granted { request, refused: Some(code) }, open.seed, out);
            }
        }
    }

    fn bind(
        &self,
        open: &mut Open,
        subscribe: &Subscribe<'_>,
        broker: &mut dyn Commands,
    ) -> Result<Position, Code> {
        if !is_pattern(subscribe.pattern) {
            return Err(Code::BadTopic);
        }
        if !open.rights.may_subscribe(subscribe.pattern) {
            return Err(Code::Forbidden);
        }
        if open.waiting.len() >= usize::from(self.settings.window).saturating_add(2 * WINDOW_SLACK) {
            return Err(Code::Limit);
        }
        let consumer = self.ensure_consumer(open, broker).map_err(code_of)?;
        let pattern = Key::slashes(subscribe.pattern.as_bytes());
        let name = open.queue_name();
        let reply = broker.execute(Command::Bind(binding(&name, pattern))).map_err(code_of)?;
        let Reply::Done(position) = reply else { return Err(Code::Refused) };
        if subscribe.retained {
            let retained = Command::Retained { consumer, pattern, grade: Grade::AtLeastOnce };
            if let Err(refusal) = broker.execute(retained) {
                log::warn!("device {}: retained messages not sent: {refusal:?}", open.device);
            }
        }
        Ok(position)
    }

    pub(super) fn unsubscribe(
        &mut self,
        open: &mut Open,
        subscribe: &Subscribe<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) {
        let pattern = Key::slashes(subscribe.pattern.as_bytes());
        let name = open.queue_name();
        let reply = broker.execute(Command::Unbind(binding(&name, pattern)));
        match reply {
            Ok(Reply::Done(position)) => {
                open.waiting.push_back((position, Waiting::Granted(subscribe.request)));
            }
            // It was not there, which is what was asked for.
            _ => say(&Frame::Granted { request: subscribe.request, refused: None }, open.seed, out),
        }
    }
}

fn binding<'k>(queue: &'k str, pattern: Key<'k>) -> Bind<'k> {
    Bind {
        exchange: EXCHANGE,
        destination: Destination::Queue(queue),
        pattern,
        arguments: &[],
        grade: Grade::AtLeastOnce,
    }
}
