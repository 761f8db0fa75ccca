//! The nouns of the broker, each over storage it borrows.
//!
//! Nothing here reads or writes the log: a noun is told what happened and answers questions.
//! The verbs that tie them together are in `broker`.

pub mod binding;
mod bond;
pub mod dedup;
pub mod exchange;
pub mod hash;
pub mod headers;
pub mod key;
pub mod link;
pub mod retained;
pub mod router;
pub mod text;
pub mod topics;
pub mod tree;
