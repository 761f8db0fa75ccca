//! Forebay's own protocol: the room, which is the gateway's side.
//!
//! What is said and why is in `crate::wire`; the other side is `crate::leaf`. `session` is one device's
//! line, `inbound` what it publishes, `outbound` what is delivered to it, `access` who may do what.
//!
//! | Forebay | wire |
//! |---|---|
//! | exchange `amq.topic` | the topic space, in MQTT's spelling |
//! | queue `wire.DEVICE` | what a device has subscribed to; durable, made by its first Subscribe |
//! | dedup key `Sequence` | device and lane, epoch, sequence of a Publish |
//! | header `timestamp` | when the device published it, if it knew the time |
//! | delivery tag | number of a Deliver, for as long as the session lasts |
//!
//! Every durable Publish is confirmed when it is on flash, and no other way, so a device's window bounds
//! what a session remembers.
//!
//! Limits: `wire.max_frame`, `wire.window`, `limits.producers`.

mod access;
mod inbound;
mod outbound;
mod session;

pub use access::{Access, Device};
pub use session::{Line, Settings, Shared, WireSession};
