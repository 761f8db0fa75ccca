//! Consumers: started, fetched for, limited and ended (class basic: qos, consume, cancel, get).
//!
//! A consumer is one of the broker's, with the channel's prefetch as its credit. One of a stream is a group of its
//! own that begins at `x-stream-offset` and goes with it. One of `amq.rabbitmq.reply-to` gets a queue
//! that only replies are sent to.
//!
//! Limits: `amqp.max_inflight` unsettled deliveries a consumer, `limits.consumers` in all.

use super::channel::Channel;
use super::codec::method::Consume;
use super::codec::{write, Table};
use super::consumers::{Consumer, Fetch, Retry, State};
use super::errors::{code, of_refusal, Fault};
use super::permissions::Right;
use super::queues::REPLY_QUEUE;
use super::session::{AmqpSession, Work};
use crate::command::{Command, QueueKind, QueueOptions, Refusal, Reply, Subscription};
use crate::units::{ConsumerId, Millis, Offset, Position, QueueId};

/// Longest delay of a delivery that was given back, if the consumer names none.
const RETRY_MAX_MS: u64 = 86_400_000;

impl AmqpSession {
    pub(super) fn qos(
        &mut self,
        channel: &mut Channel,
        prefetch_size: u32,
        prefetch_count: u16,
        global: bool,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        if prefetch_size != 0 {
            return Err(Fault::new(code::NOT_IMPLEMENTED, format!("prefetch_size!=0 ({prefetch_size})")));
        }
        match global {
            true => channel.limit = prefetch_count,
            false => channel.prefetch = prefetch_count,
        }
        let number = channel.number;
        self.reply(Position(0), work, |out| write::plain(number, 60, 11, out));
        self.resume(channel, work);
        Ok(())
    }

    pub(super) fn consume(
        &mut self,
        channel: &mut Channel,
        asked: &Consume<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let tag = match asked.tag {
            "" => self.unique_name("amq.ctag-"),
            tag if self.consumers.named(channel.number, tag).is_some() => {
                let text = format!("attempt to reuse consumer tag '{tag}'");
                return Err(Fault::new(code::NOT_ALLOWED, text));
            }
            tag => tag.to_string(),
        };
        let retry = retry_of(asked.arguments);
        let (queue, kind) = match asked.queue {
            REPLY_QUEUE => self.reply_queue(channel, asked.no_ack, work)?,
            name => {
                let name = super::queues::named(channel, name)?;
                self.demand_queue(Right::Read, &name)?;
                let found = self.find_queue(&name, work)?;
                (found.id, found.kind)
            }
        };
        let is_stream = kind == QueueKind::Stream;
        let source = if is_stream { self.open_stream(queue, asked.arguments, work)? } else { queue };
        let most = self.settings.max_inflight;
        let credit = if channel.prefetch == 0 { most } else { channel.prefetch.min(most) };
        let priority = asked.arguments.get("x-priority").and_then(|field| field.int()).unwrap_or(0);
        let subscription = Subscription {
            queue: source,
            owner: self.owner,
            credit: if asked.no_ack { 0 } else { u32::from(credit) },
            no_ack: asked.no_ack,
            priority: priority.clamp(i8::MIN.into(), i8::MAX.into()) as i8,
            exclusive: asked.exclusive,
            pull: false,
        };
        let id = match work.broker.execute(Command::Subscribe(subscription)) {
            Ok(Reply::Consumer(id)) => id,
            Ok(_) => return Err(of_refusal(Refusal::NotAllowed, asked.queue)),
            Err(Refusal::Exclusive) => {
                let text =
                    format!("queue '{}' in vhost '{}' in exclusive use", asked.queue, self.virtual_host);
                return Err(Fault::new(code::ACCESS_REFUSED, text));
            }
            Err(refusal) => {
                return Err(of_refusal(refusal, &format!("a consumer of queue '{}'", asked.queue)))
            }
        };
        let waits = !asked.nowait && !self.replies.is_empty();
        let number = channel.number;
        if !asked.nowait {
            self.reply(Position(0), work, |out| write::basic_tag(number, 21, &tag, out));
        }
        self.consumers.insert(Consumer {
            id,
            channel: number,
            tag: tag.into(),
            queue,
            state: if waits { State::Announcing } else { State::Running },
            no_ack: asked.no_ack,
            is_stream,
            retry,
            unsettled: 0,
        });
        Ok(())
    }

    /// The queue of a channel that direct replies come through.
    fn reply_queue(
        &mut self,
        channel: &mut Channel,
        no_ack: bool,
        work: &mut Work<'_>,
    ) -> Result<(QueueId, QueueKind), Fault> {
        if !no_ack {
            let text = "reply consumer cannot acknowledge";
            return Err(Fault::new(code::PRECONDITION_FAILED, text));
        }
        if channel.reply_queue.is_some() {
            return Err(Fault::new(code::PRECONDITION_FAILED, "reply consumer already set"));
        }
        let name = self.unique_name("amq.rabbitmq.reply-to.");
        let options = QueueOptions { auto_delete: true, exclusive: self.owner, ..QueueOptions::default() };
        match work.broker.execute(Command::DeclareQueue { name: &name, options }) {
            Ok(Reply::Queue { id, .. }) => {
                channel.reply_queue = Some(name.into());
                Ok((id, QueueKind::Work))
            }
            Ok(_) => Err(of_refusal(Refusal::NotAllowed, REPLY_QUEUE)),
            Err(refusal) => Err(of_refusal(refusal, REPLY_QUEUE)),
        }
    }

    /// A group over a stream that goes with its consumer.
    fn open_stream(
        &mut self,
        stream: QueueId,
        arguments: Table<'_>,
        work: &mut Work<'_>,
    ) -> Result<QueueId, Fault> {
        let start = self.stream_start(stream, arguments, work)?;
        let name = self.unique_name("amq.stream-");
        let kind = QueueKind::Group { stream };
        let options = QueueOptions { kind, auto_delete: true, start, ..QueueOptions::default() };
        match work.broker.execute(Command::DeclareQueue { name: &name, options }) {
            Ok(Reply::Queue { id, .. }) => Ok(id),
            Ok(_) => Err(of_refusal(Refusal::NotAllowed, "a stream")),
            Err(refusal) => Err(of_refusal(refusal, "a consumer of a stream")),
        }
    }

    /// Where `x-stream-offset` begins: first, last, next (without it), an offset, a time, or so long ago.
    fn stream_start(
        &mut self,
        stream: QueueId,
        arguments: Table<'_>,
        work: &mut Work<'_>,
    ) -> Result<Offset, Fault> {
        let next = Offset(u64::MAX);
        let Some(field) = arguments.get("x-stream-offset") else { return Ok(next) };
        let mut locate = |at: Millis| match work.broker.execute(Command::Locate { queue: stream, at }) {
            Ok(Reply::Located(offset)) => Ok(offset),
            Ok(_) => Ok(next),
            Err(refusal) => Err(of_refusal(refusal, "x-stream-offset")),
        };
        match (field.kind, field.text()) {
            (_, Some("first")) => Ok(Offset(0)),
            (_, Some("next")) => Ok(next),
            (_, Some("last")) => Ok(Offset(locate(Millis::NEVER)?.0.saturating_sub(1))),
            (_, Some(text)) => {
                let span_ms = super::arguments::age_ms(text).ok_or_else(|| {
                    Fault::new(code::PRECONDITION_FAILED, format!("invalid arg 'x-stream-offset': '{text}'"))
                })?;
                let now = work.broker.now();
                match work
                    .broker
                    .execute(Command::Locate { queue: stream, at: Millis(now.0.saturating_sub(span_ms)) })
                {
                    Ok(Reply::Located(offset)) => Ok(offset),
                    _ => Ok(next),
                }
            }
            (b'T', None) => locate(Millis(field.int().unwrap_or(0).max(0) as u64 * 1000)),
            _ => match field.int().and_then(|offset| u64::try_from(offset).ok()) {
                Some(offset) => Ok(Offset(offset)),
                None => Err(Fault::new(code::PRECONDITION_FAILED, "invalid arg 'x-stream-offset'")),
            },
        }
    }

    pub(super) fn cancel(
        &mut self,
        channel: &mut Channel,
        tag: &str,
        nowait: bool,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        // A name that is not known may be that of a consumer whose queue is gone.
        if let Some(id) = self.consumers.named(channel.number, tag) {
            let consumer = self.consumers.find(id);
            let unsettled = consumer.map_or(0, |consumer| {
                consumer.state = State::Ending;
                consumer.unsettled
            });
            match unsettled {
                0 => self.end_consumer(id, work),
                _ => {
                    // A consumer that is gone takes nothing either.
                    let _ = work.broker.execute(Command::Pause(id, true));
                }
            }
        }
        let number = channel.number;
        if !nowait {
            self.reply(Position(0), work, |out| write::basic_tag(number, 31, tag, out));
        }
        Ok(())
    }

    /// Takes a consumer out of the broker.
    pub(super) fn end_consumer(&mut self, id: ConsumerId, work: &mut Work<'_>) {
        self.consumers.remove(id);
        if let Err(refusal) = self.execute(Command::Unsubscribe(id), work) {
            log::debug!("amqp: consumer {id} was gone: {refusal:?}");
        }
    }

    /// Takes all consumers of a channel out of the broker.
    pub(super) fn end_consumers(&mut self, channel: u16, work: &mut Work<'_>) {
        while let Some(id) = self.consumers.first_of(channel) {
            self.end_consumer(id, work);
        }
    }

    /// A consumer is gone because its queue is.
    pub(super) fn cancelled(&mut self, id: ConsumerId, out: &mut Vec<u8>) {
        let is_fetching = self.consumers.is_fetching();
        let fetches = if is_fetching { self.consumers.take_fetches() } else { Vec::new() };
        for fetch in fetches {
            match fetch.consumer == id {
                true => write::basic_get_empty(fetch.channel, out),
                false => self.consumers.push_fetch(fetch),
            }
        }
        let Some(consumer) = self.consumers.remove(id) else { return };
        let is_told = matches!(consumer.state, State::Running | State::Announcing);
        if is_told && self.capabilities.consumer_cancel_notify {
            self.has_spoken = true;
            write::basic_cancel(consumer.channel, &consumer.tag, out);
        }
    }

    /// Executes a command that may end consumers, and tells of those that are this connection's.
    pub(super) fn execute(&mut self, command: Command<'_>, work: &mut Work<'_>) -> Result<Reply, Refusal> {
        let outcome = work.broker.execute(command);
        while let Some(id) = work.broker.poll_cancelled() {
            self.cancelled(id, work.out);
        }
        outcome
    }

    /// Consumers whose consume-ok is on its way take deliveries.
    pub(super) fn start_announced(&mut self, work: &mut Work<'_>) {
        if !self.replies.is_empty() {
            return;
        }
        self.consumers.start_announced(|id| {
            // A consumer that is gone has no use for it.
            let _ = work.broker.execute(Command::Pause(id, false));
        });
    }

    pub(super) fn get(
        &mut self,
        channel: &mut Channel,
        queue: &str,
        no_ack: bool,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let name = super::queues::named(channel, queue)?;
        self.demand_queue(Right::Read, &name)?;
        let found = self.find_queue(&name, work)?;
        if found.kind == QueueKind::Stream {
            let text = format!("basic.get not supported by stream queues queue '{name}'");
            return Err(Fault::new(code::NOT_IMPLEMENTED, text));
        }
        let number = channel.number;
        let id = match self.consumers.fetching(number, found.id, no_ack) {
            Some(id) => id,
            None => self.start_fetching(number, found.id, no_ack, work)?,
        };
        self.fetch(channel, Fetch { channel: number, consumer: id }, work)
    }

    fn start_fetching(
        &mut self,
        channel: u16,
        queue: QueueId,
        no_ack: bool,
        work: &mut Work<'_>,
    ) -> Result<ConsumerId, Fault> {
        let credit = u32::from(self.settings.max_inflight);
        let subscription =
            Subscription { queue, owner: self.owner, credit, no_ack, pull: true, ..Subscription::default() };
        let id = match work.broker.execute(Command::Subscribe(subscription)) {
            Ok(Reply::Consumer(id)) => id,
            Ok(_) => return Err(of_refusal(Refusal::NotAllowed, "basic.get")),
            Err(refusal) => return Err(of_refusal(refusal, "basic.get")),
        };
        self.consumers.insert(Consumer {
            id,
            channel,
            tag: "".into(),
            queue,
            state: State::Fetching,
            no_ack,
            is_stream: false,
            retry: None,
            unsettled: 0,
        });
        Ok(id)
    }
}

/// How a consumer wants what it gives back to come again.
fn retry_of(arguments: Table<'_>) -> Option<Retry> {
    let number =
        |name| arguments.get(name).and_then(|field| field.int()).and_then(|ms| u64::try_from(ms).ok());
    let min_ms = number("x-delayed-retry-min").filter(|&min_ms| min_ms > 0)?;
    Some(Retry { min_ms, max_ms: number("x-delayed-retry-max").unwrap_or(RETRY_MAX_MS).max(min_ms) })
}
