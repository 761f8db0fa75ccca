//! Forebay: a message broker for the edge.
//!
//! The layers, each importing only from those below it:
//! ```text
//! main            arguments, configuration, serve                                      std
//! gateway/        listeners, one connection loop for every protocol, committer         std
//! protocol/       one room a protocol, all of the same shape: bytes <-> commands       std
//! leaf/           a device's store and its link to a gateway, for firmware             core
//! broker/         the verbs: publish route append deliver ack expire restore           core
//! command         the narrow waist: Command in; Reply and Delivery out                 core
//! model/          the nouns: exchange binding queue group in-flight retained dedup     core
//! wire/           the frames of Forebay's own protocol, for both ends                  core
//! log/            the circular segment log                                             core
//! flash/          the device contract; RAM, NOR, file, image and faulty devices       core
//! fixed units limits time                                                              core
//! ```
//! The core needs neither `std` nor an allocator: it works on slices it is given at boot,
//! takes the time as an argument, and does no input or output but through [`flash::Flash`].
#![cfg_attr(not(feature = "gateway"), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod broker;
pub mod command;
pub mod fixed;
pub mod flash;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod leaf;
pub mod limits;
pub mod log;
pub mod model;
#[cfg(feature = "gateway")]
pub mod protocol;
pub mod time;
pub mod units;
pub mod wire;
