//! Queues (class queue): declared, bound, purged, deleted.
//!
//! A queue that somebody has for himself answers nobody else (405); one that is declared again must be as it
//! is (406). What is durable is answered when it is on flash. Deleting a queue cancels its consumers.

use super::channel::Channel;
use super::codec::method::{Binding, QueueDeclare};
use super::codec::{write, MethodId};
use super::errors::{code, not_found, of_refusal, Fault};
use super::permissions::Right;
use super::session::{AmqpSession, Work};
use crate::command::{Command, Destination, QueueKind, Refusal, Reply};
use crate::units::{Position, QueueId};

/// The queue that stands for a channel's direct replies.
pub(super) const REPLY_QUEUE: &str = "amq.rabbitmq.reply-to";

/// Rounds of a purge in one turn; each removes a bounded number.
const PURGES_COUNT: u32 = 8;

/// A purge that takes more than one turn.
pub(super) struct Purge {
    channel: u16,
    queue: String,
    removed: u32,
    nowait: bool,
}

/// A queue as it was found.
pub(super) struct Found {
    pub(super) id: QueueId,
    pub(super) kind: QueueKind,
    pub(super) ready: u32,
    pub(super) consumers: u32,
}

/// A queue's name; an empty one stands for the last one declared on the channel.
pub(super) fn named(channel: &Channel, name: &str) -> Result<String, Fault> {
    match name {
        "" if channel.last_queue.is_empty() => {
            Err(Fault::new(code::NOT_FOUND, "no previously declared queue"))
        }
        "" => Ok(channel.last_queue.to_string()),
        name => Ok(name.to_string()),
    }
}

impl AmqpSession {
    /// Finds a queue that this connection may use.
    pub(super) fn find_queue(&mut self, name: &str, work: &mut Work<'_>) -> Result<Found, Fault> {
        match work.broker.execute(Command::FindQueue { name }) {
            Ok(Reply::Queue { id, kind, ready, consumers, exclusive, .. }) => {
                match exclusive == 0 || exclusive == self.owner {
                    true => Ok(Found { id, kind, ready, consumers }),
                    false => Err(self.locked(name)),
                }
            }
            Ok(_) | Err(Refusal::NoQueue) => Err(not_found("queue", name, &self.virtual_host)),
            Err(refusal) => Err(of_refusal(refusal, &format!("queue '{name}'"))),
        }
    }

    fn locked(&self, name: &str) -> Fault {
        let host = &self.virtual_host;
        Fault::new(
            code::RESOURCE_LOCKED,
            format!(
                "cannot obtain exclusive access to locked queue '{name}' in vhost '{host}'. It could be \
                 originally declared on another connection or the exclusive property value does not match \
                 that of the original declaration."
            ),
        )
    }

    pub(super) fn queue_declare(
        &mut self,
        channel: &mut Channel,
        asked: &QueueDeclare<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let number = channel.number;
        if asked.queue == REPLY_QUEUE {
            self.reply(Position(0), work, |out| write::queue_declare_ok(number, REPLY_QUEUE, 0, 1, out));
            return Ok(());
        }
        let name = match asked.queue {
            "" if asked.passive => named(channel, "")?,
            "" => self.unique_name("amq.gen-"),
            name => name.to_string(),
        };
        let (ready, consumers, position) = match asked.passive {
            true => {
                let found = self.find_queue(&name, work)?;
                (found.ready, found.consumers, Position(0))
            }
            false => self.make_queue(&name, asked, work)?,
        };
        channel.last_queue = name.as_str().into();
        if !asked.nowait {
            self.reply(position, work, |out| write::queue_declare_ok(number, &name, ready, consumers, out));
        }
        Ok(())
    }

    fn make_queue(
        &mut self,
        name: &str,
        asked: &QueueDeclare<'_>,
        work: &mut Work<'_>,
    ) -> Result<(u32, u32, Position), Fault> {
        if asked.queue.starts_with("amq.") && work.broker.execute(Command::FindQueue { name }).is_err() {
            let text = format!("queue name '{name}' contains reserved prefix 'amq.*'");
            return Err(Fault::new(code::ACCESS_REFUSED, text));
        }
        self.demand_queue(Right::Configure, name)?;
        let options = super::arguments::queue_options(name, asked, self.owner, &self.virtual_host)?;
        if let Some(exchange) = options.dead_letter_exchange {
            self.demand_queue(Right::Read, name)?;
            self.demand_exchange(Right::Write, exchange)?;
        }
        match work.broker.execute(Command::DeclareQueue { name, options }) {
            Ok(Reply::Queue { ready, consumers, durable_at, .. }) => Ok((ready, consumers, durable_at)),
            Ok(_) => Err(of_refusal(Refusal::NotAllowed, name)),
            Err(Refusal::Mismatch) => {
                // Somebody else's is not even compared.
                self.find_queue(name, work)?;
                let host = &self.virtual_host;
                let text = format!("inequivalent arguments for queue '{name}' in vhost '{host}'");
                Err(Fault::new(code::PRECONDITION_FAILED, text))
            }
            Err(refusal) => Err(of_refusal(refusal, &format!("queue '{name}'"))),
        }
    }

    pub(super) fn queue_bind(
        &mut self,
        channel: &mut Channel,
        binding: &Binding<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let position = self.bind_queue(channel, binding, true, work)?;
        let number = channel.number;
        if !binding.nowait {
            self.reply(position, work, |out| write::plain(number, 50, 21, out));
        }
        Ok(())
    }

    pub(super) fn queue_unbind(
        &mut self,
        channel: &mut Channel,
        binding: &Binding<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let position = self.bind_queue(channel, binding, false, work)?;
        let number = channel.number;
        self.reply(position, work, |out| write::plain(number, 50, 51, out));
        Ok(())
    }

    fn bind_queue(
        &mut self,
        channel: &Channel,
        binding: &Binding<'_>,
        is_made: bool,
        work: &mut Work<'_>,
    ) -> Result<Position, Fault> {
        let name = named(channel, binding.destination)?;
        self.demand_queue(Right::Write, &name)?;
        self.find_queue(&name, work)?;
        // Without queue and key both are those of the queue declared last.
        let is_last = binding.destination.is_empty() && binding.routing_key.is_empty();
        let routing_key = if is_last { name.as_bytes() } else { binding.routing_key };
        let binding = Binding { destination: &name, routing_key, ..*binding };
        self.bind(&binding, Destination::Queue(&name), is_made, work)
    }

    pub(super) fn queue_purge(
        &mut self,
        channel: &mut Channel,
        queue: &str,
        nowait: bool,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let name = named(channel, queue)?;
        self.demand_queue(Right::Read, &name)?;
        self.find_queue(&name, work)?;
        self.purge = Some(Purge { channel: channel.number, queue: name, removed: 0, nowait });
        Ok(())
    }

    /// Goes on with a purge, a bounded piece; true if there is none or it has come to its end.
    pub(super) fn go_on_purging(&mut self, work: &mut Work<'_>) -> bool {
        let Some(mut purge) = self.purge.take() else { return true };
        for _ in 0..PURGES_COUNT {
            match work.broker.execute(Command::Purge { name: &purge.queue }) {
                Ok(Reply::Purged { count, more }) => {
                    purge.removed = purge.removed.saturating_add(count);
                    if !more {
                        self.end_purge(&purge, work);
                        return true;
                    }
                }
                // Somebody has deleted it meanwhile, and with it the rest.
                Ok(_) | Err(Refusal::NoQueue) => {
                    self.end_purge(&purge, work);
                    return true;
                }
                Err(refusal) => {
                    let fault = of_refusal(refusal, &format!("queue '{}'", purge.queue));
                    self.fault(purge.channel, MethodId { class: 50, method: 30 }, fault, work);
                    return true;
                }
            }
        }
        self.purge = Some(purge);
        false
    }

    fn end_purge(&mut self, purge: &Purge, work: &mut Work<'_>) {
        let channel = self.channels.get(usize::from(purge.channel)).and_then(Option::as_ref);
        if !purge.nowait && channel.is_some_and(|channel| !channel.is_closing) {
            self.reply(Position(0), work, |out| write::queue_count(purge.channel, 31, purge.removed, out));
        }
    }

    pub(super) fn queue_delete(
        &mut self,
        channel: &mut Channel,
        queue: &str,
        (if_unused, if_empty): (bool, bool),
        nowait: bool,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let name = named(channel, queue)?;
        self.demand_queue(Right::Configure, &name)?;
        let (number, host) = (channel.number, self.virtual_host.clone());
        let count = match self.find_queue(&name, work) {
            // It is gone, as was asked.
            Err(fault) if fault.code == code::NOT_FOUND => 0,
            Err(fault) => return Err(fault),
            Ok(_) => match self.execute(Command::DeleteQueue { name: &name, if_unused, if_empty }, work) {
                Ok(Reply::Removed(count)) => count,
                Ok(_) => 0,
                Err(Refusal::InUse) => {
                    let text = format!("queue '{name}' in vhost '{host}' in use");
                    return Err(Fault::new(code::PRECONDITION_FAILED, text));
                }
                Err(Refusal::NotEmpty) => {
                    let text = format!("queue '{name}' in vhost '{host}' not empty");
                    return Err(Fault::new(code::PRECONDITION_FAILED, text));
                }
                Err(refusal) => return Err(of_refusal(refusal, &format!("queue '{name}'"))),
            },
        };
        if !nowait {
            self.reply(Position(0), work, |out| write::queue_count(number, 41, count, out));
        }
        Ok(())
    }

    /// Removes the queues that go with the connection.
    pub(super) fn delete_exclusive(&mut self, work: &mut Work<'_>) {
        if let Err(refusal) = self.execute(Command::DeleteExclusive { owner: self.owner }, work) {
            log::debug!("amqp: no exclusive queues were removed: {refusal:?}");
        }
    }
}
