//! The nouns of the broker, each over storage it borrows.
//!
//! Nothing here reads or writes the log: a noun is told what happened and answers questions.
//! The verbs that tie them together are in `broker`.

pub mod binding;
pub mod bond;
pub mod consumer;
#[cfg(feature = "gateway")]
pub mod deaths;
pub mod dedup;
pub mod entry;
pub mod exchange;
pub mod flight;
pub mod hash;
pub mod headers;
pub mod key;
mod lane;
pub mod link;
mod order;
pub mod pages;
pub mod queue;
pub mod queues;
pub mod ready;
pub mod retained;
pub mod router;
#[cfg(feature = "gateway")]
mod span;
pub mod tenancy;
pub mod text;
mod timers;
pub mod topics;
pub mod tree;
