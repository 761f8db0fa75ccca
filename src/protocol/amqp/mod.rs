//! AMQP 0-9-1, as RabbitMQ's clients speak it: the room.
//!
//! `codec` turns bytes into frames, methods, tables and properties and back. `session` is one client's connection,
//! in parts: `dispatch` finds who does the work, `connection` logs in and agrees, `exchanges` and `queues` declare, `publish` takes messages in, `confirms`
//! says when they are on flash, `permissions` who may, `consume` and `deliver` hand them out, `settle` takes back what the client says of
//! them, `transaction` does several as one. `message` is the mapping of properties.
//!
//! | Forebay | AMQP |
//! |---|---|
//! | exchange, binding | exchange, binding; `x-delayed-message` is the type it names |
//! | work queue | queue of type classic or quorum |
//! | stream; group | queue of type stream; a consumer of it |
//! | consumer, credit | consumer, prefetch |
//! | tag | delivery tag: a number of its own on each channel |
//! | durable message | delivery mode 2 |
//! | confirm at a position | basic.ack after the sync, `multiple` |
//! | dead letter | `x-death`, `x-first-death-*`, `x-last-death-*` |
//!
//! What goes from one protocol to the other:
//!
//! | AMQP | in the broker | MQTT |
//! |---|---|---|
//! | exchange `amq.topic`, routing key `a.b` | exchange, key | topic `a/b` |
//! | binding key `a.*`, `#` | pattern | filter `a/+`, `#` |
//! | delivery mode 1, 2 | not durable, durable | QoS 0, 1 |
//! | body | body | payload |
//! | `headers` | headers, each by name and type | user properties of 5.0 |
//! | `content_type`, `correlation_id`, `reply_to`, `message_id`, ... | one header without a name, see `message` | properties of 5.0 |
//! | `expiration` | time to live | message expiry of 5.0 |
//! | `priority` | priority | - |
//! | header `x-delay` | delay | - |
//! | header `x-deduplication` | identity of the publish | - |
//! | - | retained | retain: not delivered to AMQP |
//!
//! Virtual hosts are admitted by name and share one name space.
//!
//! Limits: `amqp.frame_max`, `amqp.channel_max`, `amqp.max_inflight`, `limits.max_message_bytes`.

mod arguments;
mod channel;
pub mod codec;
mod confirms;
mod connection;
mod consume;
mod consumers;
mod deliver;
mod dispatch;
mod errors;
mod exchanges;
mod message;
mod permissions;
mod publish;
mod queues;
mod replies;
mod sasl;
mod session;
mod settle;
mod transaction;

pub use permissions::Permission;
pub use sasl::User;
pub use session::AmqpSession;

/// What the configuration says of AMQP.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who may connect.
    pub users: Vec<User>,
    /// What they may do; everybody everything if there is no entry.
    pub permissions: Vec<Permission>,
    /// Virtual hosts that may be opened.
    pub virtual_hosts: Vec<String>,
    /// The largest frame, in bytes.
    pub frame_max: u32,
    /// Most channels of a connection.
    pub channel_max: u16,
    /// The heartbeat that is proposed, in seconds.
    pub heartbeat_s: u16,
    /// Most unsettled deliveries of a consumer.
    pub max_inflight: u16,
    /// A delivery that is not acknowledged for so long, at most twice as long, ends its channel; 0 is never.
    pub consumer_timeout_ms: u64,
    /// The largest message, in bytes of its body.
    pub max_message_bytes: u32,
}
