//! Torture: the promise that nothing confirmed is lost, put to the test on anybody's machine.
//!
//! ```text
//! random     numbers that a seed gives again
//! stats      what was done, and what went wrong
//! toy        a broker of the simplest kind, for volume     shop       the real one, with a script
//! ledger     which states are right at a step              script     a run that is recorded
//! inspect    the checks behind every cut                   campaign/  everything of a kind, in turn
//! simulator  one seed, one device, many lives of a broker; seeded nouns body
//! life       one life, each call held against the model; actions publishing declaring
//! model      what a broker has to hold; shelf live history look
//! card       a real file, with what no sync covered lost
//! shrink     the smallest run that still goes wrong
//! ```

pub mod actions;
pub mod body;
pub mod campaign;
pub mod card;
mod declaring;
pub mod history;
pub mod inspect;
pub mod ledger;
pub mod life;
pub mod live;
pub mod look;
pub mod model;
pub mod nouns;
mod publishing;
pub mod random;
pub mod script;
pub mod seeded;
mod shelf;
pub mod shop;
pub mod shrink;
pub mod simulator;
pub mod stats;
pub mod toy;
