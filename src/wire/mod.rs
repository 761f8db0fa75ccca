//! Forebay's own protocol: for serial lines, lossy radios and everything that has an `embedded-io` stream.
//!
//! A device publishes and subscribes over a stream that may lose, flip or repeat bytes and may end at any
//! moment on either side; what it stored reaches the gateway's broker once, in order. Frames are
//! postcard with a checksum in COBS (`layout`, `codec`, `cobs`), what they say is in `frame`. All of that needs
//! neither std nor an allocator; the device's side is `leaf`, the gateway's is the room `protocol::wire`.
//!
//! ```text
//! device                                       gateway
//!   0 Hello nonce name secret       ───────►                      again until Welcome, or Error
//!                                   ◄───────   Welcome nonce window time
//!   Open lane epoch settled         ───────►   Subscribe          each again until Granted
//!   Publish sequence distance ...   ───────►   broker, flash
//!                                   ◄───────   Confirm upto       cumulative; deleted here
//!                                   ◄───────   Deliver number distance ...
//!   Ack upto                        ───────►                      cumulative
//! ```
//! - **Nothing is lost unseen.** A publish says how far its sequence is from the one before; one that does
//!   not follow what was taken is not taken: `Again` names where to go on. Deliveries have the same, `Nack`.
//! - **Nothing is doubled at the gateway.** (device, lane, epoch, sequence) is recorded with the message in
//!   one record of the log (`DedupKey::Sequence`); what is not above the last of its lane is confirmed
//!   and dropped. So the device may send anything again at any time.
//! - **Deliveries** are at least once: a device that is reset between processing and `Ack` gets it again,
//!   with `REDELIVERED` set; within a session each is handed over once.
//! - **Credit** is the number of messages that may be unconfirmed, each way; 0 pauses.
//! - **Resuming** is a Hello: either side forgets the session at any time, and the device's log and the
//!   gateway's dedup index say where to go on.
//!
//! | Forebay | wire |
//! |---|---|
//! | exchange `amq.topic` | the topic space, in MQTT's spelling |
//! | queue `wire.DEVICE` | what a device has subscribed to; made by its first Subscribe, durable |
//! | dedup key | device, lane, epoch and sequence of a Publish |
//! | delivery tag | number of a Deliver, for as long as the session lasts |
//!
//! Limits: `wire.max_frame`, `wire.window`, `limits.producers`; [`NAME_MAX`], [`LANES`].

pub mod cobs;
pub mod codec;
pub mod frame;
mod layout;

pub use codec::{seal, unwrap, Assembler, Sealed, Seed, FRAME_MAX};
pub use frame::Frame;

/// Version of the protocol.
pub const VERSION: u8 = 1;

/// Longest device name, in bytes.
pub const NAME_MAX: usize = 64;

/// Lanes of a device.
pub const LANES: usize = 4;

/// A valid device name.
pub fn is_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(valid)
}
