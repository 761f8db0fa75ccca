//! What the firmware of every board shares.
//!
//! ```text
//! leaf     the firmware of a leaf: readings into the flash, and on to the gateway
//! memory   `broker_memory!`: the memory of a whole broker as static tables
//! profile  such memory, of the size that everything here is measured with
//! store    the store, made at the first start
//! ticks    a counter that goes round, as time
//! text     text and numbers without `core::fmt`, which takes more code than a microcontroller has to spare
//! decimal  numbers as digits
//! words    errors in a word
//! ```
//! A board's own crate holds what only it knows: memory map, flash, serial port, clock.

#![no_std]

pub mod decimal;
pub mod leaf;
mod memory;
pub mod profile;
pub mod store;
pub mod text;
pub mod ticks;
pub mod words;

#[doc(hidden)]
pub use {forebay, static_cell};
