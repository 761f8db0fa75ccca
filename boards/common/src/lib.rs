//! What the firmware of every board shares.
//!
//! [`broker_memory!`] sets the memory of a broker aside as static tables; [`store`] makes the store at the
//! first start; [`decimal`] writes numbers without the machinery of `core::fmt`, which alone takes more code than a microcontroller has to spare.
//!
//! A board's own crate holds what only it knows: memory map, flash, serial port, clock.

#![no_std]

pub mod decimal;
mod memory;
pub mod store;
pub mod ticks;
pub mod words;

#[doc(hidden)]
pub use {forebay, static_cell};
