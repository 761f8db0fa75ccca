//! Torture: the promise that nothing confirmed is lost, put to the test on anybody's machine.
//!
//! ```text
//! random     numbers that a seed gives again
//! simulator  one seed, one device, many lives of a broker; nouns body
//! life       one life, each call held against the model; actions
//! model      what a broker has to hold; live history look
//! shrink     the smallest run that still goes wrong
//! ```

pub mod actions;
pub mod body;
pub mod history;
pub mod life;
pub mod live;
pub mod look;
pub mod model;
pub mod nouns;
pub mod random;
pub mod shrink;
pub mod simulator;
