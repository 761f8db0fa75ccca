//! The gateway: the broker as a program.
//!
//! It reads the configuration, sets the memory aside, opens the store and the listeners, and turns
//! one loop that serves every protocol. The loop is the one a microcontroller would have: wait,
//! read what came, let the sessions and the broker work, commit, send. There is no executor under
//! it: an epoll wait already is the list of what is ready, nothing in a turn waits, and the runtimes
//! bring a thread of their own and a system call for each wake-up that this one does without.
//!
//! ```text
//! cli      words of the command line -> what to do
//! config   the table of keys, the file, the effective configuration
//! plan     memory and storage of a configuration, before anything starts
//! serve    start, the loop, stop        doors signals clock logger report
//! turn     one turn                     poller
//! table    the connections              slot buffers pressure stream
//! desk     sessions <-> broker          engine memory store rooms
//! ```
//! Limits: `connections.*`; everything else is the broker's.

pub mod buffers;
pub mod cli;
mod clock;
pub mod config;
mod desk;
mod doors;
mod engine;
pub mod errors;
mod logger;
mod memory;
pub mod plan;
mod poller;
mod pressure;
mod report;
mod rooms;
mod serve;
mod signals;
mod slot;
mod store;
mod stream;
mod table;
mod turn;

#[cfg(test)]
mod tests;
