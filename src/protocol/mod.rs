//! Protocols: bytes in and out on one side, commands and deliveries on the other.
//!
//! Every room implements [`Session`] and does no input or output, so a test feeds it a
//! transcript and a gateway drives any of them over any stream.

use crate::command::{Commands, Delivery, Offer};
use crate::units::{ConsumerId, Millis, Position};

pub mod amqp;
pub mod mqtt;
pub mod wire;

/// How a connection writes deliveries that nothing is remembered of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// MQTT 3.1.1.
    Mqtt311,
    /// MQTT 5.
    Mqtt5,
}

/// What is needed to write to a connection without its session: deliveries that were never stored
/// and wait for no acknowledgement leave no trace in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// How its frames look.
    pub dialect: Dialect,
    /// The largest frame the peer takes; a larger one is dropped.
    pub max_frame_size: u32,
}

/// Writes a delivery for any connection of a dialect.
pub type WriteDirect = fn(Dialect, &Delivery<'_>, &mut Vec<u8>);

/// Why a session ends its connection. The text is for the log: what happened, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Close {
    /// The peer said goodbye.
    Normal,
    /// The peer broke the protocol or a limit; the reason names it.
    Protocol(&'static str),
    /// The peer was silent for too long.
    Silent,
    /// The stream ended or failed without a goodbye.
    Lost,
    /// The broker is shutting down.
    Shutdown,
    /// Another connection took over its identity.
    TakenOver,
    /// The broker refused something the session cannot go on without.
    Refused(&'static str),
}

/// What an operator is told of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What it speaks.
    pub protocol: &'static str,
    /// Channels it has open, where the protocol has such.
    pub channels: usize,
    /// Consumers it has started, where the protocol has such.
    pub consumers: usize,
    /// Bytes it keeps of messages that are not whole, and of what is not committed.
    pub held_bytes: usize,
}

/// One connection's protocol state.
///
/// The driver's contract: feed input with `handle_input` and drop what it consumed; hand over
/// deliveries addressed to it; after every sync call `handle_durable`, or `handle_read_only` if none can
/// succeed any more; call `handle_timeout` at `poll_timeout`; whatever lands in `out` is written in order; once a call returned `Close`,
/// write `out`, call `handle_close` and end the connection.
pub trait Session {
    /// Consumes as many whole frames as `input` holds; returns the bytes used. A frame that is not
    /// whole yet is left; a frame over the limit closes at once.
    fn handle_input(
        &mut self,
        input: &[u8],
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<usize, Close>;

    /// It has stopped before the end of its input so that others have their turn: `handle_input` is called
    /// again in the next turn with what it left, and with nothing that came since.
    fn is_unfinished(&self) -> bool {
        false
    }

    /// Writes a delivery for this session.
    fn handle_delivery(&mut self, delivery: &Delivery<'_>, out: &mut Vec<u8>) -> Offer;

    /// A consumer of this session was ended because its queue is gone.
    fn handle_cancelled(&mut self, _consumer: ConsumerId, _out: &mut Vec<u8>) {}

    /// Everything before `durable` is on flash: writes the confirms that waited for it.
    fn handle_durable(&mut self, durable: Position, broker: &mut dyn Commands, out: &mut Vec<u8>);

    /// Nothing becomes durable any more: what waits for that waits in vain. A session whose peer can
    /// only learn that from the end of the connection ends it.
    fn handle_read_only(&mut self, _out: &mut Vec<u8>) -> Result<(), Close> {
        Ok(())
    }

    /// The broker is about to end the connection because it stops: says so, if the protocol has words for it.
    fn say_farewell(&mut self, _out: &mut Vec<u8>) {}

    /// How to write to it without it; none until the peer has introduced itself.
    fn direct(&self) -> Option<Direct> {
        None
    }

    /// What an operator is told of it.
    fn about(&self) -> About {
        About::default()
    }

    /// Its peer has introduced itself, so it may be silent from now on.
    fn is_established(&self) -> bool {
        self.direct().is_some()
    }

    /// Confirms wait in it for `handle_durable`.
    fn awaits_durable(&self) -> bool {
        true
    }

    /// When `handle_timeout` wants to be called.
    fn poll_timeout(&self) -> Millis;

    /// Time has come: keep-alive and the like.
    fn handle_timeout(
        &mut self,
        now: Millis,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close>;

    /// The connection is over, for this reason; wills are published, consumers detached.
    fn handle_close(&mut self, reason: &Close, broker: &mut dyn Commands);
}
