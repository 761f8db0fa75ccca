//! The AMQP codec: bytes to frames, methods, tables and properties, and back.
//!
//! Everything borrows from the bytes it was read from; nothing is copied, nothing allocated, and
//! nothing recurses deeper than a small constant. All of it is written out by hand: the crates
//! for this allocate for every frame, follow nested tables without a bound, and bring a network
//! stack with them, and a server needs no more than these methods.
//!
//! ```text
//!            frame              method                     table
//!  bytes -> type, channel -> one variant a method -> fields, checked once
//!                        \-> properties: what the broker acts on, the rest opaque
//!  write: one function a method that a server sends
//! ```
//! Specification: AMQP 0-9-1 (2008), with the field types and methods RabbitMQ added.

pub mod cursor;
pub mod frame;
pub mod method;
pub mod properties;
pub mod table;
pub mod write;

pub use frame::{split, Frame, FrameError, FRAME_MIN, GREETING};
pub use method::{parse, Method, MethodError, MethodId};
pub use properties::{ContentHeader, Properties};
pub use table::{Field, Table, TableWriter};
