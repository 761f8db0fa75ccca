//! What a client says of its deliveries (class basic: ack, nack, reject, recover; channel.flow).
//!
//! ```text
//! ack                    done
//! nack, reject requeue   back to its place, or after a delay if its consumer asked for that
//! nack, reject           to the dead-letter exchange, or gone
//! recover                all of the channel back to their places
//! ```

use super::channel::{Channel, Mode, Unsettled};
use super::codec::{write, Method};
use super::consumers::State;
use super::errors::{code, Fault};
use super::session::{AmqpSession, Work};
use crate::command::{Command, Rejection};
use crate::units::Position;

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was processed.
    Ack,
    /// It goes back.
    Requeue,
    /// It is not wanted.
    Drop,
}

impl AmqpSession {
    pub(super) fn settle(
        &mut self,
        channel: &mut Channel,
        method: &Method<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let back = |requeue| if requeue { Verdict::Requeue } else { Verdict::Drop };
        let (number, multiple, verdict) = match *method {
            Method::BasicAck { number, multiple } => (number, multiple, Verdict::Ack),
            Method::BasicNack { number, multiple, requeue } => (number, multiple, back(requeue)),
            Method::BasicReject { number, requeue } => (number, false, back(requeue)),
            _ => return Ok(()),
        };
        let unknown = || Fault::new(code::PRECONDITION_FAILED, format!("unknown delivery tag {number}"));
        if !multiple {
            let unsettled = channel.window.take(number).ok_or_else(unknown)?;
            self.settle_one(channel, unsettled, verdict, work);
        } else {
            if number > 0 && !channel.window.has_sent(number) {
                return Err(unknown());
            }
            let number = if number == 0 { u64::MAX } else { number };
            while let Some(unsettled) = channel.window.take_up_to(number) {
                self.settle_one(channel, unsettled, verdict, work);
            }
        }
        self.resume(channel, work);
        Ok(())
    }

    fn settle_one(
        &mut self,
        channel: &mut Channel,
        unsettled: Unsettled,
        verdict: Verdict,
        work: &mut Work<'_>,
    ) {
        if let Mode::Transaction(transaction) = &mut channel.mode {
            return transaction.settle(unsettled, verdict);
        }
        let command = self.command_of(&unsettled, verdict);
        if let Err(refusal) = work.broker.execute(command) {
            // Its queue is gone, or its lease is over.
            log::debug!("amqp: a delivery was settled too late: {refusal:?}");
        }
        self.note_settled(&unsettled, work);
    }

    /// The command that settles a delivery.
    pub(super) fn command_of(&mut self, unsettled: &Unsettled, verdict: Verdict) -> Command<'static> {
        let retry = self.consumers.find(unsettled.consumer).and_then(|consumer| consumer.retry);
        match (verdict, retry) {
            (Verdict::Ack, _) => Command::Ack(unsettled.tag),
            (Verdict::Drop, _) => Command::Reject(unsettled.tag, Rejection::DeadLetter),
            (Verdict::Requeue, None) => Command::Reject(unsettled.tag, Rejection::Requeue),
            (Verdict::Requeue, Some(retry)) => {
                let delay_ms = retry.delay_ms(unsettled.delivery_count);
                Command::Reject(unsettled.tag, Rejection::Delay(delay_ms))
            }
        }
    }

    /// A delivery is settled: a cancelled consumer goes with its last one.
    pub(super) fn note_settled(&mut self, unsettled: &Unsettled, work: &mut Work<'_>) {
        let Some(consumer) = self.consumers.find(unsettled.consumer) else { return };
        consumer.unsettled = consumer.unsettled.saturating_sub(1);
        if consumer.unsettled == 0 && consumer.state == State::Ending {
            self.end_consumer(unsettled.consumer, work);
        }
    }

    pub(super) fn recover(
        &mut self,
        channel: &mut Channel,
        requeue: bool,
        is_async: bool,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        if !requeue {
            return Err(Fault::new(code::NOT_IMPLEMENTED, "basic.recover with requeue=false"));
        }
        while let Some(unsettled) = channel.window.take_up_to(u64::MAX) {
            self.settle_one(channel, unsettled, Verdict::Requeue, work);
        }
        let number = channel.number;
        if !is_async {
            self.reply(Position(0), work, |out| write::plain(number, 60, 111, out));
        }
        self.resume(channel, work);
        Ok(())
    }

    pub(super) fn flow(
        &mut self,
        channel: &mut Channel,
        active: bool,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        channel.is_stopped = !active;
        let number = channel.number;
        self.reply(Position(0), work, |out| write::channel_flow_ok(number, active, out));
        self.resume(channel, work);
        Ok(())
    }

    /// Lets the consumers of a channel go on that were turned away.
    pub(super) fn resume(&mut self, channel: &mut Channel, work: &mut Work<'_>) {
        if !channel.is_stalled || !channel.has_room() {
            return;
        }
        channel.is_stalled = false;
        for id in self.consumers.running_on(channel.number) {
            if let Err(refusal) = work.broker.execute(Command::Pause(id, false)) {
                log::debug!("amqp: consumer {id} is gone: {refusal:?}");
            }
        }
    }
}
