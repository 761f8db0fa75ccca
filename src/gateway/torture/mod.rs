//! Torture: the promise that nothing confirmed is lost, put to the test on anybody's machine.
//!
//! ```text
//! random     numbers that a seed gives again
//! ```

pub mod random;
