//! The gateway: the broker as a program.
//!
//! It reads the configuration, sets the memory aside, opens the store and the listeners, and turns
//! one loop that serves every protocol. The loop is the one a microcontroller would have: wait,
//! read what came, let the sessions and the broker work, commit, send. It runs as one future on
//! smol's executor: nothing within a turn waits, so a future for each connection would buy nothing but
//! a wake-up. The sockets are in an edge-triggered list (`poller`) that costs no system call to re-arm.
//!
//! ```text
//! cli      words of the command line -> what to do
//! config   the table of keys, the file, the effective configuration
//! plan     memory and storage of a configuration, before anything starts
//! serve    start, the loop, stop        doors signals clock logger report supervisor
//! turn     one turn                     poller runtime
//! table    the connections              slot buffers pressure stream serial
//! desk     sessions <-> broker          engine memory store rooms
//! control  the session of who asks the running broker: status, list, cancel
//! look     into a store without a broker: fsck, cat, export
//! torture  the core under simulated losses of power and dying media
//! ```
//! Limits: `connections.*`; everything else is the broker's.

pub mod buffers;
pub mod cli;
mod clock;
pub mod config;
mod control;
mod desk;
mod doors;
mod engine;
pub mod errors;
mod json;
mod logger;
mod look;
pub mod memory;
pub mod plan;
mod poller;
mod pressure;
mod report;
mod rooms;
mod runtime;
mod serial;
mod serve;
mod signals;
mod slot;
mod store;
mod stream;
mod supervisor;
mod table;
pub mod torture;
mod turn;

#[cfg(test)]
mod tests;
