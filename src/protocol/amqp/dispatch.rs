//! From a frame on a channel to what does the work.
//!
//! ```text
//! not open    channel.open only
//! closing     channel.close-ok only; everything else is ignored
//! open        one method of its class, or a piece of the content that was begun
//! ```

use super::channel::Channel;
use super::codec::frame::{BODY, HEADER, METHOD};
use super::codec::{write, Frame, Method, MethodId};
use super::errors::{code, Fault};
use super::session::{AmqpSession, Work};
use crate::units::Position;

impl AmqpSession {
    /// A frame on a channel.
    pub(super) fn handle_channel(
        &mut self,
        frame: Frame<'_>,
        id: MethodId,
        method: Option<&Method<'_>>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let number = frame.channel;
        let Some(mut channel) = self.take_channel(number) else {
            return match method {
                Some(Method::ChannelOpen) => self.open_channel(number, work),
                // The end of a channel that both sides have closed at once.
                Some(Method::ChannelCloseOk) => Ok(()),
                _ => Err(Fault::new(code::CHANNEL_ERROR, format!("channel {number} is not open"))),
            };
        };
        if channel.is_closing {
            match method {
                Some(Method::ChannelCloseOk) => return Ok(()),
                Some(Method::ChannelClose { .. }) => {
                    self.reply(Position(0), work, |out| write::plain(number, 20, 41, out));
                }
                _ => {}
            }
            self.put_channel(channel);
            return Ok(());
        }
        let outcome = match (frame.kind, method) {
            (METHOD, Some(Method::ChannelClose { .. })) => {
                self.release_channel(&mut channel, work);
                self.reply(Position(0), work, |out| write::plain(number, 20, 41, out));
                return Ok(());
            }
            (METHOD, Some(method)) => self.handle_method(&mut channel, id, method, work),
            (HEADER, _) => self.take_header(&mut channel, frame.payload, work),
            (BODY, _) => self.take_body(&mut channel, frame.payload, work),
            _ => Err(Fault::new(code::UNEXPECTED_FRAME, "a frame that cannot come on a channel")),
        };
        self.put_channel(channel);
        outcome
    }

    fn open_channel(&mut self, number: u16, work: &mut Work<'_>) -> Result<(), Fault> {
        if self.channel_max > 0 && number > self.channel_max {
            let text = format!("channel {number} is over the negotiated channel_max ({})", self.channel_max);
            return Err(Fault::new(code::NOT_ALLOWED, text));
        }
        let place = usize::from(number);
        if self.channels.len() <= place {
            self.channels.resize_with(place + 1, || None);
        }
        self.put_channel(Box::new(Channel::new(number)));
        self.reply(Position(0), work, |out| write::channel_open_ok(number, out));
        Ok(())
    }

    fn handle_method(
        &mut self,
        channel: &mut Channel,
        id: MethodId,
        method: &Method<'_>,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        if channel.assembly.is_some() {
            let text = "expected the rest of a content, got a method";
            return Err(Fault::new(code::UNEXPECTED_FRAME, text));
        }
        match method {
            Method::ChannelFlow { active } => self.flow(channel, *active, work),
            Method::ChannelFlowOk | Method::BasicCancelOk | Method::ChannelCloseOk => Ok(()),
            Method::ChannelOpen => Err(Fault::new(code::CHANNEL_ERROR, "second 'channel.open' seen")),
            Method::ExchangeDeclare(asked) => self.exchange_declare(channel, asked, work),
            Method::ExchangeDelete { exchange, if_unused, nowait } => {
                self.exchange_delete(channel, exchange, *if_unused, *nowait, work)
            }
            Method::ExchangeBind(binding) => self.exchange_bind(channel, binding, work),
            Method::ExchangeUnbind(binding) => self.exchange_unbind(channel, binding, work),
            Method::QueueDeclare(asked) => self.queue_declare(channel, asked, work),
            Method::QueueBind(binding) => self.queue_bind(channel, binding, work),
            Method::QueueUnbind(binding) => self.queue_unbind(channel, binding, work),
            Method::QueuePurge { queue, nowait } => self.queue_purge(channel, queue, *nowait, work),
            Method::QueueDelete { queue, if_unused, if_empty, nowait } => {
                self.queue_delete(channel, queue, (*if_unused, *if_empty), *nowait, work)
            }
            Method::BasicQos { prefetch_size, prefetch_count, global } => {
                self.qos(channel, *prefetch_size, *prefetch_count, *global, work)
            }
            Method::BasicConsume(asked) => self.consume(channel, asked, work),
            Method::BasicCancel { tag, nowait } => self.cancel(channel, tag, *nowait, work),
            Method::BasicPublish(publish) => self.begin_content(channel, publish),
            Method::BasicGet { queue, no_ack } => self.get(channel, queue, *no_ack, work),
            Method::BasicAck { .. } | Method::BasicNack { .. } | Method::BasicReject { .. } => {
                self.settle(channel, method, work)
            }
            Method::BasicRecover { requeue, is_async } => self.recover(channel, *requeue, *is_async, work),
            Method::TxSelect | Method::TxCommit | Method::TxRollback => self.transact(channel, method, work),
            Method::ConfirmSelect { nowait } => self.confirm_select(channel, *nowait, work),
            _ => Err(Fault::new(
                code::COMMAND_INVALID,
                format!("method {}.{} does not belong on a channel", id.class, id.method),
            )),
        }
    }
}
