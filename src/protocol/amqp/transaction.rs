//! Transactions (class tx): publishes and acknowledgements that take effect together.
//!
//! Until tx.commit they are kept here; the commit hands them to the broker as one, so that after a loss of
//! power all of it is there or nothing, and it is answered when that is on flash. A mandatory message that
//! no queue took comes back before the answer.
//!
//! Limits: with unfinished messages twice `limits.max_message_bytes` a connection.

use super::channel::{Channel, Mode, Unsettled};
use super::codec::properties::Properties;
use super::codec::{write, Method};
use super::errors::{code, not_found, of_refusal, Fault};
use super::publish::{unfit, Asked, Incoming};
use super::session::{AmqpSession, Work};
use super::settle::Verdict;
use crate::command::{Command, Refusal, Reply, Step};
use crate::units::Position;
use std::cell::Cell;

/// Bytes a step is counted with besides its message.
const STEP_BYTES: usize = 64;

/// A message that waits for the commit.
struct Kept {
    exchange: Box<str>,
    routing_key: Box<[u8]>,
    mandatory: bool,
    flags: u16,
    list: Box<[u8]>,
    body: Box<[u8]>,
}

impl Kept {
    fn incoming(&self) -> Incoming<'_> {
        Incoming {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            mandatory: self.mandatory,
            properties: Properties::read(self.flags, &self.list).unwrap_or_default(),
            body: &self.body,
        }
    }
}

/// What a channel has done since its last commit or rollback.
#[derive(Default)]
pub struct Transaction {
    messages: Vec<Kept>,
    settled: Vec<(Unsettled, Verdict)>,
    held_bytes: usize,
}

impl Transaction {
    /// Keeps a message; returns the bytes it is counted with.
    pub fn publish(&mut self, incoming: &Incoming<'_>) -> usize {
        let properties = &incoming.properties;
        self.messages.push(Kept {
            exchange: incoming.exchange.into(),
            routing_key: incoming.routing_key.into(),
            mandatory: incoming.mandatory,
            flags: properties.flags,
            list: properties.list.into(),
            body: incoming.body.into(),
        });
        let text = incoming.exchange.len() + incoming.routing_key.len();
        let bytes = STEP_BYTES + text + properties.list.len() + incoming.body.len();
        self.held_bytes += bytes;
        bytes
    }

    /// Keeps what a client says of a delivery; there are never more than deliveries.
    pub fn settle(&mut self, unsettled: Unsettled, verdict: Verdict) {
        self.settled.push((unsettled, verdict));
    }

    /// Bytes it is counted with.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

impl AmqpSession {
    pub(super) fn confirm_select(
        &mut self,
        channel: &mut Channel,
        nowait: bool,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        match channel.mode {
            Mode::Transaction(_) => {
                let text = "cannot switch from tx to confirm mode";
                return Err(Fault::new(code::PRECONDITION_FAILED, text));
            }
            Mode::Plain => channel.mode = Mode::Confirm(Box::default()),
            Mode::Confirm(_) => {}
        }
        let number = channel.number;
        if !nowait {
            self.reply(Position(0), work, |out| write::plain(number, 85, 11, out));
        }
        Ok(())
    }

    pub(super) fn transact(
        &mut self,
        channel: &mut Channel,
        method: &Method<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let number = channel.number;
        if *method == Method::TxSelect {
            match channel.mode {
                Mode::Confirm(_) => {
                    let text = "cannot switch from confirm to tx mode";
                    return Err(Fault::new(code::PRECONDITION_FAILED, text));
                }
                Mode::Plain => channel.mode = Mode::Transaction(Box::default()),
                Mode::Transaction(_) => {}
            }
            self.reply(Position(0), work, |out| write::plain(number, 90, 11, out));
            return Ok(());
        }
        let Mode::Transaction(transaction) = &mut channel.mode else {
            return Err(Fault::new(code::PRECONDITION_FAILED, "channel is not transactional"));
        };
        let transaction = std::mem::take(&mut **transaction);
        self.held_bytes = self.held_bytes.saturating_sub(transaction.held_bytes);
        if *method == Method::TxRollback {
            // Deliveries it had settled wait again.
            channel.window.restore(transaction.settled.into_iter().map(|(unsettled, _)| unsettled));
            self.reply(Position(0), work, |out| write::plain(number, 90, 31, out));
            return Ok(());
        }
        let position = self.commit(channel, &transaction, work)?;
        self.reply(position, work, |out| write::plain(number, 90, 21, out));
        self.resume(channel, work);
        Ok(())
    }

    /// Hands a transaction to the broker; the position at which it is on flash.
    fn commit(
        &mut self,
        channel: &mut Channel,
        transaction: &Transaction,
        work: &mut Work<'_>,
    ) -> Result<Position, Fault> {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        for kept in &transaction.messages {
            blocks.push(self.scratch.block(&kept.incoming().properties).map_err(|_| unfit())?.to_vec());
        }
        let routed: Vec<Cell<u16>> = vec![Cell::new(0); blocks.len()];
        let asked = transaction.messages.iter().map(|kept| Asked::read(&kept.incoming()));
        let asked: Vec<Asked<'_>> = asked.collect::<Result<_, Fault>>()?;
        let mut steps = Vec::new();
        for (((kept, asked), block), count) in
            transaction.messages.iter().zip(&asked).zip(&blocks).zip(&routed)
        {
            steps.push(Step::Publish(asked.publish(&kept.incoming(), block), count));
        }
        for (unsettled, verdict) in &transaction.settled {
            match self.command_of(unsettled, *verdict) {
                Command::Reject(tag, rejection) => steps.push(Step::Reject(tag, rejection)),
                _ => steps.push(Step::Ack(unsettled.tag)),
            }
        }
        let position = match work.broker.execute(Command::Tx(&steps)) {
            Ok(Reply::Done(position)) => position,
            Ok(_) => Position(0),
            Err(Refusal::NoExchange) => {
                let names = transaction.messages.iter().map(|kept| &*kept.exchange);
                let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
                return Err(not_found("exchange", &names.join("' or '"), &self.virtual_host));
            }
            Err(refusal) => return Err(of_refusal(refusal, "a transaction, of which nothing was done")),
        };
        for (kept, count) in transaction.messages.iter().zip(&routed) {
            if kept.mandatory && count.get() == 0 {
                self.give_back(channel.number, &kept.incoming(), work.out);
            }
        }
        for (unsettled, _) in &transaction.settled {
            self.note_settled(unsettled, work);
        }
        Ok(position)
    }
}
